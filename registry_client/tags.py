"""The tags of a repository."""

import contextlib
import json
import re

from registry_client.answers import limited_body
from registry_client.client import Access, Call, Client
from registry_client.errors import NotFound, RegistryError
from registry_client.manifests import Repository
from registry_client.resolve import pulling
from registry_client.transport import target_of
from store.reference import Reference

_PAGE = 1000
_FEW = 50
_MOST_PAGES = 1000
_NEXT = re.compile(r"<([^>]*)>\s*;\s*rel=\"?next\"?")


def tags(reference: Reference, access: Access | None = None) -> list[str]:
    """Return the tags in the repository of `reference`, in the registry's order.

    Raises NotFound, Unauthorized, RegistryError, ….
    """
    name = reference.repository
    what = f"list tags of {reference.familiar_name}"
    found: list[str] = []
    with Client(reference.registry, access or Access(), name) as client:
        path: str | None = f"/v2/{name}/tags/list?n={_PAGE}"
        for _ in range(_MOST_PAGES):
            if path is None:
                return found
            page, path = _page(client, path, name, what)
            found += page
    raise RegistryError(f"{what}: more than {_MOST_PAGES} pages")


def tags_after(repository: Repository, tag: str, what: str) -> list[str]:
    """Return the tags that begin with `tag`, and perhaps others, by one short request.

    Registries list tags in order and begin after `last`; one that knows no `last` lists all.
    Raises RegistryError, …. Source: distribution-spec, "Listing Tags".
    """
    path = f"/v2/{repository.name}/tags/list?n={_FEW}&last={tag}"
    found: list[str] = []
    next_path: str | None = path
    while next_path is not None and (not found or found[-1] <= f"{tag}~"):
        try:
            page, next_path = _page(repository.client, next_path, repository.name, what)
        except NotFound:
            return []
        found += page
        if not page:
            break
    return found


def _page(client: Client, path: str, name: str, what: str) -> tuple[list[str], str | None]:
    """Return the tags of one page and the address of the next."""
    response = client.ask(Call("GET", path, what, pulling(name)))
    with contextlib.closing(response):
        data = limited_body(response, what)
    try:
        listed = json.loads(data)["tags"] or []
        names = [str(tag) for tag in listed]
    except (ValueError, LookupError, TypeError) as error:
        raise RegistryError(f"{what}: the registry's list is malformed") from error
    link = _NEXT.search(response.headers.get("Link", ""))
    return names, target_of(response.url, link[1], what) if link else None
