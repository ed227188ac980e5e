"""The tags of a repository, in pages."""

import pytest

from registry_client.errors import NotFound, RegistryError
from registry_client.tags import tags
from store.reference import Reference


@pytest.mark.parametrize("page", [1, 2, 1000])
def test_tags(page, registry, image, access) -> None:
    for tag in ("1", "2", "latest"):
        registry.add("app", tag, image)
    registry.add("other", "x", image)
    registry.page = page
    assert tags(Reference.parse(f"{registry.host}/app"), access) == ["1", "2", "latest"]


def test_none(registry, access) -> None:
    assert tags(Reference.parse(f"{registry.host}/app"), access) == []


def test_an_unknown_repository(registry, access, faults) -> None:
    registry.break_("/v2/app/tags/list", faults.status(404))
    with pytest.raises(NotFound, match=r"^list tags of 127.0.0.1"):
        tags(Reference.parse(f"{registry.host}/app"), access)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"tags": 7}'])
def test_nonsense(body, registry, access, faults) -> None:
    registry.break_("/v2/app/tags/list", faults.sends(body))
    with pytest.raises(RegistryError, match="malformed"):
        tags(Reference.parse(f"{registry.host}/app"), access)


def test_pages_without_end(registry, access, faults, monkeypatch) -> None:
    monkeypatch.setattr("registry_client.tags._MOST_PAGES", 3)
    link = '</v2/app/tags/list?n=1>; rel="next"'
    endless = faults.sends(b'{"tags": ["x"]}', Link=link)
    registry.break_("/v2/app/tags/list", *[endless] * 9)
    with pytest.raises(RegistryError, match="more than 3 pages"):
        tags(Reference.parse(f"{registry.host}/app"), access)
