"""The content digest is over one JSON text, however many pieces it is made in."""

import json

import pytest

from builder.contenthash import Entry, Match, Selection, row
from store.digest import digest_of


def entry(path: str, kind: str = "file") -> Entry:
    digest = digest_of(path.encode()) if kind == "file" else ""
    xattrs = (("user.x", b"1"),) if path.endswith("7") else ()
    return Entry(path, kind, 0o644, 1, 2, 3, 4, 5, "", 0, digest, xattrs, None, (0, 0, 0, 0, 0))


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 2001])
@pytest.mark.parametrize("with_owner", [True, False])
def test_pieces_make_the_same_digest(count: int, with_owner: bool) -> None:
    tree = Match("d", "d", (entry("", "dir"), *(entry(f'"f"{n}') for n in range(count))))
    matches = (tree, Match("é", "é", (entry(""),)))
    for chosen in (matches, matches[:1], matches[1:], ()):
        whole = [
            ["" if match.is_dir else match.name, [row(one, with_owner) for one in match.entries]]
            for match in chosen
        ]
        text = json.dumps(whole, separators=(",", ":"))
        assert Selection(chosen).digest(with_owner=with_owner) == digest_of(text.encode())
