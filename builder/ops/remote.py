"""ADD of a URL as a step: the file is asked for in every build, and fetched when it changed."""

import json

from builder.errors import InstructionError
from builder.site import FetchedFile, Result, Site
from builder.vertex import DownloadOp, Vertex
from store.digest import Digest


def fetch(op: DownloadOp, vertex: Vertex, site: Site) -> Result:
    """Return the downloaded file; a server's 304 answer keeps the one that is here."""
    from registry_client.download import download
    from registry_client.errors import RegistryError

    known = json.loads(site.store.records.recall("download", op.url) or "{}")
    if not site.store.content.has(Digest(known.get("digest", ""))):
        known = {}
    with site.step(vertex) as step, site.store.content.writer() as writer:
        try:
            answer = download(
                op.url,
                writer,
                etag=known.get("etag"),
                last_modified=known.get("last_modified"),
                expected=op.checksum if not known else None,
            )
        except RegistryError as error:
            raise InstructionError(vertex.place, str(error), hint=error.hint) from error
        if answer.not_modified:
            step.cached()
        else:
            digest, size_bytes = writer.commit()
            known = {"digest": digest, "size": size_bytes, "etag": answer.etag}
            step.done()
    return Result(fetched=FetchedFile(Digest(known["digest"]), known["size"], "", 0))
