"""ADD of a URL as a step: the server is asked in every build, the bytes come when they changed.

Source: Dockerfile reference, "Adding files from URLs".
"""

import json
import os
import posixpath
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from builder.errors import InstructionError
from builder.ops.tries import tried
from builder.policy import duration_words, runs_always
from builder.secrets import Secrets
from builder.site import FetchedFile, Result, Site
from builder.vertex import DownloadOp, Vertex
from registry_client.download import Downloaded, download, shown
from registry_client.errors import DigestMismatch, RegistryError, TooSlow
from store.buildrecords import DOWNLOADS
from store.digest import Digest, is_digest
from store.root import Store
from store.tarreader import chunks_of

_UNNAMED = "__unnamed__"


def fetch(op: DownloadOp, vertex: Vertex, site: Site) -> Result:
    """Return the file as a step's result. Raises InstructionError."""
    limit_ms = vertex.policies.timeout_ms
    limit_s = limit_ms / 1000 or None

    def attempt() -> tuple[FetchedFile, bool]:
        try:
            again = runs_always(vertex)
            return fetch_file(op, site.store, site.supplies.secrets, again=again, limit_s=limit_s)
        except TooSlow as error:
            text = f"download {shown(op.url)}: exceeded its timeout of {duration_words(limit_ms)}"
            raise InstructionError(vertex.place, text) from error
        except RegistryError as error:
            raise InstructionError(vertex.place, str(error), hint=error.hint) from error

    with site.step(vertex) as step:
        fetched, is_old = tried(attempt, vertex, site, step)
        if is_old:
            step.cached()
        else:
            step.done()
    return Result(fetched=fetched)


def fetch_file(
    op: DownloadOp,
    store: Store,
    secrets: Secrets,
    *,
    again: bool = False,
    limit_s: float | None = None,
) -> tuple[FetchedFile, bool]:
    """Return the file, and whether it is the one of the last time.

    A server that answers "not modified" leaves the one that is here; `again` does not tell it
    that there is one. A file whose checksum is known and that is here is not asked for, as BuildKit
    does not. limit_s: how long it may take. Raises RegistryError.
    """
    here = {} if again or op.checksum is None else remembered(op, store)
    if here:
        store.records.remember(DOWNLOADS, op.url, json.dumps(here))
        return fetched_file(here), True
    with tempfile.TemporaryFile(dir=os.path.join(store.root, "tmp")) as file:
        known = {} if again else remembered(op, store)
        answer = ask(op, known, file, authorization(op.url, secrets), limit_s)
        if not answer.not_modified:
            known = take(op, answer, file, store)
        # Again where it is known: it was used now.
        store.records.remember(DOWNLOADS, op.url, json.dumps(known))
    return fetched_file(known), answer.not_modified


def fetched_file(known: Mapping[str, object]) -> FetchedFile:
    """Return the file that is remembered so."""
    return FetchedFile(
        digest=Digest(str(known["digest"])),
        size_bytes=int(str(known["size_bytes"])),
        name=str(known["name"]),
        mtime_ns=mtime_ns(known.get("last_modified")),
    )


def pinned_digest(op: DownloadOp, vertex: Vertex, store: Store, secrets: Secrets) -> str:
    """Fetch a file that has a checksum; return the digest that it has. Raises InstructionError."""
    try:
        fetched, _ = fetch_file(op, store, secrets)
    except DigestMismatch as error:
        return error.actual
    except RegistryError as error:
        raise InstructionError(vertex.place, str(error), hint=error.hint) from error
    return fetched.digest


def remembered(op: DownloadOp, store: Store) -> Mapping[str, object]:
    """Return what is known of the last download of a URL, if its bytes are still here."""
    known = store.records.recall_fields(DOWNLOADS, op.url)
    digest = str(known.get("digest", ""))
    fits = op.checksum is None or op.checksum == digest
    return known if fits and is_digest(digest) and store.content.has(Digest(digest)) else {}


def authorization(url: str, secrets: Secrets) -> dict[str, str]:
    """Return the header that the secrets of a build give a server, by its host, perhaps with port.

    Source: Dockerfile reference, "ADD", "HTTP authentication".
    """
    try:
        parts = urlsplit(url)
        hosts = (parts.netloc.rpartition("@")[2], parts.hostname or "")
    except ValueError:
        return {}
    for host in dict.fromkeys(hosts):
        header = secrets.value(f"HTTP_AUTH_HEADER_{host}")
        token = secrets.value(f"HTTP_AUTH_TOKEN_{host}")
        if header is not None:
            return {"Authorization": os.fsdecode(header).strip()}
        if token is not None:
            return {"Authorization": f"Bearer {os.fsdecode(token).strip()}"}
    return {}


def ask(
    op: DownloadOp,
    known: Mapping[str, object],
    file: BinaryIO,
    headers: Mapping[str, str],
    limit_s: float | None = None,
) -> Downloaded:
    """Fetch the URL into `file` unless it is still what is known. Raises RegistryError."""
    etag, modified = known.get("etag"), known.get("last_modified")
    return download(
        op.url,
        file,
        etag=str(etag) if etag else None,
        last_modified=datetime.fromisoformat(str(modified)) if modified else None,
        expected=op.checksum,
        headers=headers,
        limit_s=limit_s,
    )


def take(op: DownloadOp, answer: Downloaded, file: BinaryIO, store: Store) -> Mapping[str, object]:
    """Put downloaded bytes into the store and return what is to be remembered of them."""
    file.seek(0)
    digest, size_bytes = store.content.ingest(chunks_of(file), answer.digest)
    modified = answer.last_modified
    return {
        "digest": digest,
        "size_bytes": size_bytes,
        "name": name_of(op.url),
        "etag": answer.etag,
        "last_modified": modified.astimezone(UTC).isoformat() if modified else None,
    }


def name_of(url: str) -> str:
    """Return what a downloaded file is called: the last part of the path, if there is any."""
    name = posixpath.basename(unquote(urlsplit(url).path).rstrip("/"))
    return _UNNAMED if name in ("", ".", "..") or "\0" in name else name


def mtime_ns(last_modified: object) -> int:
    """Return the time a downloaded file gets: the server's, or 1970 where it gave none."""
    if not last_modified:
        return 0
    return int(datetime.fromisoformat(str(last_modified)).timestamp()) * 1_000_000_000
