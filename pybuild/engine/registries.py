"""Images from registries and to them, and who we are there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pybuild.errors import ImageMissing, PybuildError
from values.classes import dataclass

if TYPE_CHECKING:
    from registry_client.client import Access
    from registry_client.events import OnEvent
    from registry_client.login import LoggedIn
    from registry_client.pull import Pulled
    from registry_client.push import Pushed
    from store.images import Image
    from store.oci import Platform
    from store.reference import Reference
    from store.root import Store

    Watch = Callable[[Reference], OnEvent]


@dataclass(frozen=True, slots=True)
class RegistryTerms:
    """What registries have to prove.

    tls_verify: False takes any certificate, and plain HTTP where there is no TLS. ca_files: PEM
    files trusted besides the system's.
    """

    tls_verify: bool = True
    ca_files: tuple[str, ...] = ()


def platform_of(text: str | None) -> Platform | None:
    """Return `os/arch[/variant]` as a platform. Raises PybuildError."""
    from store import platforms

    if text is None:
        return None
    try:
        return platforms.parse(text)
    except ValueError as error:
        raise PybuildError(f"--platform: {error}") from error


def pull(
    store: Store,
    name: str,
    *,
    platform: str | None = None,
    all_tags: bool = False,
    terms: RegistryTerms | None = None,
    watch: Watch | None = None,
) -> list[Pulled]:
    """Bring the image called `name`, or all tags of its repository, into the store.

    watch: called before each image, gives what takes its progress. Raises RegistryError,
    StoreError.
    """
    from registry_client.pull import pull as pull_one

    access = access_of(terms)
    wanted = platform_of(platform)
    pulled = []
    for reference in _references(name, access, all_tags=all_tags):
        on_event = (watch or _unwatched)(reference)
        pulled.append(pull_one(store, reference, platform=wanted, access=access, on_event=on_event))
    return pulled


def push(
    store: Store,
    name: str,
    *,
    all_tags: bool = False,
    terms: RegistryTerms | None = None,
    watch: Watch | None = None,
) -> list[Pushed]:
    """Push the image called `name`, or all tags of its repository that are here.

    watch: called before each image, gives what takes its progress. Raises ImageMissing,
    RegistryError, StoreError.
    """
    from registry_client.push import push as push_one
    from store.reference import Reference

    given = Reference.parse(name)
    _check_all_tags(name, given, all_tags=all_tags)
    records = [record.reference for record in store.images.reference_records()]
    here = [r for r in records if r.name == given.name and r.tag]
    references = here if all_tags else [r for r in here if r == given]
    if not references:
        raise ImageMissing(
            f"push {given.familiar_name if all_tags else given.familiar()}: no such image here",
            hint="pybuild tag gives an image the name that it is to have there",
        )
    access = access_of(terms)
    return [
        push_one(store, reference, access=access, on_event=(watch or _unwatched)(reference))
        for reference in sorted(references, key=str)
    ]


def found_or_pulled(store: Store, name: str, when: str, watch: Watch | None = None) -> Image:
    """Return the image called `name`, pulled when it is `missing`, `always`, or `never`.

    watch: called before a pull, gives what takes its progress.
    Raises ImageMissing, RegistryError, StoreError.
    """
    from store.errors import InvalidReference, NotFound
    from store.reference import Reference

    try:
        if when != "always":
            return store.images.find(name)
    except NotFound as error:
        if when == "never":
            raise _missing(name) from error
    try:
        reference = Reference.parse(name)
    except InvalidReference as error:
        raise _missing(name) from error
    (pulled,) = pull(store, str(reference), watch=watch)
    return pulled.image


def log_in(
    server: str, username: str, password: str, terms: RegistryTerms | None = None
) -> LoggedIn:
    """Show credentials to a registry, and keep them when it lets us in.

    Raises RegistryError.
    """
    from registry_client.credentials import Credentials, CredentialStore
    from registry_client.login import log_in as log_in_there

    given = Credentials(username, password)
    return log_in_there(server, given, access_of(terms), CredentialStore())


def log_out(server: str) -> tuple[str, bool]:
    """Forget the credentials for a registry; return its name and whether there were any."""
    from registry_client.credentials import CredentialStore
    from registry_client.login import log_out as log_out_there

    return log_out_there(server, CredentialStore())


def access_of(terms: RegistryTerms | None) -> Access:
    """Return how registries are spoken to."""
    from registry_client.client import Access
    from registry_client.trust import Trust

    terms = terms or RegistryTerms()
    return Access(Trust.from_environment(verify=terms.tls_verify, ca_files=terms.ca_files))


def _references(name: str, access: Access, *, all_tags: bool) -> list[Reference]:
    from store.reference import Reference

    given = Reference.parse(name)
    _check_all_tags(name, given, all_tags=all_tags)
    if not all_tags:
        return [given]
    from registry_client.tags import tags

    return [given.with_tag(tag) for tag in tags(given, access)]


def _check_all_tags(name: str, given: Reference, *, all_tags: bool) -> None:
    if all_tags and (given.digest or not name.endswith(given.repository)):
        raise PybuildError("tag can't be used with --all-tags/-a")


def _unwatched(_reference: Reference) -> OnEvent:
    return lambda _event: None


def _missing(name: str) -> ImageMissing:
    return ImageMissing(
        f"unable to find image {name!r} locally",
        hint="pybuild images lists what is there; pull, build, load or import takes images in",
    )
