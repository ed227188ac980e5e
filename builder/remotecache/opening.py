"""From the values of `--cache-from` and `--cache-to` to the places themselves.

Imported by builds that have some: the registry's client takes 100 ms to import.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from builder.absent import Absent
from builder.remotecache.exports import Export
from builder.remotecache.folder import FolderCache
from builder.remotecache.imports import Imports
from builder.remotecache.registry import RegistryCache
from builder.request import BuildRequest, CachePlace
from builder.transfers import access_of
from registry_client.errors import RegistryError
from registry_client.transport import Patience
from store.oci import Platform
from store.reference import Reference
from store.root import Store
from values.classes import replace

if TYPE_CHECKING:
    from builder.remotecache.s3 import BucketCache

ERRORS: tuple[type[Exception], ...] = (RegistryError, OSError)
# A cache is there to save time: one that does not answer is not waited for.
_PATIENCE = Patience(timeout_s=20.0, retries=2, backoff_s=0.2)
_TAG = "latest"


@contextmanager
def opened_imports(
    request: BuildRequest,
    platform: Platform,
    absent: Absent,
    warn: Callable[[str], None],
) -> Iterator[Imports]:
    """Open the sources that a request names; they are closed at the end."""
    absent.errors = ERRORS
    with ExitStack() as stack:
        sources = [_cache(absent.store, request, place, platform) for place in request.cache_from]
        for source in sources:
            stack.callback(source.close)
        yield Imports(sources, absent, warn, ERRORS)


@contextmanager
def opened_exports(
    request: BuildRequest, platform: Platform, absent: Absent
) -> Iterator[list[Export]]:
    """Open the targets that a request names; they are closed at the end."""
    absent.errors = ERRORS
    store = absent.store
    with ExitStack() as stack:
        exports = []
        for place in request.cache_to:
            if place.type == "inline":
                continue  # it goes with the image
            target = _cache(store, request, place, platform, writes=True)
            stack.callback(target.close)
            exports.append(Export(store, absent, target, place))
        yield exports


def _cache(
    store: Store,
    request: BuildRequest,
    place: CachePlace,
    platform: Platform,
    *,
    writes: bool = False,
) -> "RegistryCache | FolderCache | BucketCache":
    if place.type == "local":
        folder = place.option("dest" if writes else "src") or ""
        is_reset = writes and place.is_on("reset")
        tag = place.option("tag") or _TAG
        digest = place.option("digest") or ""
        path = os.path.abspath(folder)
        return FolderCache(path, tag, store.content, is_reset=is_reset, digest=digest)
    if place.type == "registry":
        reference = Reference.parse(place.option("ref") or "")
        access = access_of(request, insecure=place.is_on("registry.insecure"))
        patient = replace(access, patience=_PATIENCE)
        return RegistryCache(reference, patient, store.content, platform, writes=writes)
    from builder.remotecache.s3 import BucketCache

    return BucketCache(place, store.content)
