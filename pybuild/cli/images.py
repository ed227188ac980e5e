"""The verbs images, rmi and tag."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pybuild.cli.listing import listing
from pybuild.cli.options import Parsed, Syntax, flag, value
from pybuild.cli.report import is_expected, report
from pybuild.cli.table import ago, human_size, parse_time, short_id
from pybuild.cli.verb import Session, Verb

if TYPE_CHECKING:
    from store.images import Image
    from store.reference import Reference

IMAGES = Syntax(
    verb="images",
    usage="images [OPTIONS] [REPOSITORY[:TAG]]",
    summary="List images.",
    options=(
        flag("all", "as docker's; there are no hidden images here", "a"),
        flag("digests", "show digests"),
        value("format", "FORM", "table, json or a template: {{.ID}} {{.Repository}} …"),
        flag("no-trunc", "show whole image IDs"),
        flag("quiet", "show image IDs only", "q"),
    ),
    at_most=1,
    later="filter/f tree",
)
RMI = Syntax(
    verb="rmi",
    usage="rmi [OPTIONS] IMAGE...",
    summary="Remove images: a name, and with its last name the image.",
    options=(
        flag("force", "remove an image with all its names, and one that a container uses", "f"),
        flag("no-prune", "as docker's; there are no parents to delete here"),
    ),
    at_least=1,
    at_most=None,
    later="platform",
)
TAG = Syntax(
    verb="tag",
    usage="tag IMAGE NAME[:TAG]",
    summary="Give an image one more name.",
    at_least=2,
    at_most=2,
)

_NONE = "<none>"
_COLUMNS = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "Size": "SIZE",
}


def images(parsed: Parsed, session: Session) -> int:
    """List images."""
    whole = parsed.flag("no-trunc")
    with session.engine() as engine:
        wanted = parsed.arguments[0] if parsed.arguments else None
        rows = [
            row
            for image, names in engine.images(wanted)
            for row in _rows(image, names, whole=whole)
        ]
    if parsed.flag("quiet"):
        print("".join(f"{image_id}\n" for image_id in dict.fromkeys(r["ID"] for r in rows)), end="")
        return 0
    columns = {k: v for k, v in _COLUMNS.items() if k != "Digest" or parsed.flag("digests")}
    print(listing(rows, columns, parsed.text("format")), end="")
    return 0


def rmi(parsed: Parsed, session: Session) -> int:
    """Remove images; go on after a failure."""
    failed = False
    with session.engine() as engine:
        for name in parsed.arguments:
            try:
                lines = engine.remove_image(name, force=parsed.flag("force"))
            except Exception as error:
                if not is_expected(error):
                    raise
                report(error, debug=session.debug)
                failed = True
            else:
                print("\n".join(lines))
    return 1 if failed else 0


def tag(parsed: Parsed, session: Session) -> int:
    """Give an image one more name."""
    source, target = parsed.arguments
    with session.engine() as engine:
        engine.tag(source, target)
    return 0


VERBS = {"images": Verb(IMAGES, images), "rmi": Verb(RMI, rmi), "tag": Verb(TAG, tag)}


def _rows(image: Image, names: tuple[Reference, ...], *, whole: bool) -> Iterator[dict[str, str]]:
    """Yield a row for each tag, and for a repository with a digest alone; one without any name."""
    created = parse_time(image.config.created)
    common = {
        "ID": image.id if whole else short_id(image.id),
        "CreatedSince": ago(created),
        "CreatedAt": str(created or "N/A"),
        "Size": human_size(image.size_bytes),
    }
    digests = {name.name: name.digest for name in names if name.digest}
    tagged = {name.name for name in names if name.tag}
    for name in names:
        if name.digest and name.name in tagged:
            continue  # the rows of its tags show it
        yield {
            "Repository": name.familiar_name,
            "Tag": name.tag or _NONE,
            "Digest": digests.get(name.name) or _NONE,
            **common,
        }
    if not names:
        yield {"Repository": _NONE, "Tag": _NONE, "Digest": _NONE, **common}
