"""The verbs images, rmi and tag."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pybuild.cli.confirm import confirmed
from pybuild.cli.listing import listing
from pybuild.cli.options import Parsed, Syntax, flag, many, value
from pybuild.cli.report import is_expected, report
from pybuild.cli.table import ago, human_size, local_time, parse_time, short_id
from pybuild.cli.verb import Session, Verb

if TYPE_CHECKING:
    from store.images import Image
    from store.reference import Reference

IMAGES = Syntax(
    verb="images",
    usage="images [OPTIONS] [REPOSITORY[:TAG]]",
    summary="List images.",
    options=(
        flag("all", "images of other platforms too, which only an index names", "a"),
        flag("digests", "show digests"),
        many("filter", "KEY=VALUE", "dangling, label, before, since, reference or until", "f"),
        value("format", "FORM", "table, json or a template: {{.ID}} {{.Repository}} …"),
        flag("no-trunc", "show whole image IDs"),
        flag("quiet", "show image IDs only", "q"),
    ),
    at_most=1,
    later="tree",
)
RMI = Syntax(
    verb="rmi",
    usage="rmi [OPTIONS] IMAGE...",
    summary="Remove images: a name, and with its last name the image.",
    options=(
        flag("force", "with all its names, or in spite of an ended container", "f"),
        flag("no-prune", "as docker's; there are no parents to delete here"),
    ),
    at_least=1,
    at_most=None,
    later="platform",
)
PRUNE = Syntax(
    verb="image prune",
    usage="image prune [OPTIONS]",
    summary="Remove the images that have no tag, or that no container uses.",
    options=(
        flag("all", "those with a tag too, unless a container uses them", "a"),
        flag("force", "do not ask", "f"),
        many("filter", "KEY=VALUE", "until=24h, label=K[=V] or label!=K[=V]"),
    ),
)
TAG = Syntax(
    verb="tag",
    usage="tag IMAGE NAME[:TAG]",
    summary="Give an image one more name.",
    at_least=2,
    at_most=2,
)

_NONE = "<none>"
_PRUNE = "This will remove all dangling images."
_PRUNE_ALL = "This will remove all images without at least one container associated to them."
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
    form = parsed.text("format")
    digests = parsed.flag("digests") or (form is not None and ".Digest" in form)
    with session.engine(reading=True) as engine:
        found = engine.images(
            parsed.arguments[0] if parsed.arguments else None,
            filters=parsed.many("filter"),
            everything=parsed.flag("all"),
        )
        rows = [
            row
            for image, names in found
            for row in _rows(image, names, whole=parsed.flag("no-trunc"), digests=digests)
        ]
    if parsed.flag("quiet") and form is None:
        print("".join(f"{row['ID']}\n" for row in rows), end="")
        return 0
    columns = {k: v for k, v in _COLUMNS.items() if k != "Digest" or parsed.flag("digests")}
    print(listing(rows, columns, form), end="")
    return 0


def rmi(parsed: Parsed, session: Session) -> int:
    """Remove images; go on after a failure. What is not there is no failure with --force."""
    failed = False
    with session.engine(reading=True) as engine:
        for name in parsed.arguments:
            try:
                lines = engine.remove_image(name, force=parsed.flag("force"))
            except Exception as error:
                if not is_expected(error):
                    raise
                report(error, debug=session.debug)
                failed = failed or not (parsed.flag("force") and _is_not_found(error))
            else:
                print("\n".join(lines), flush=True)
    return 1 if failed else 0


def prune(parsed: Parsed, session: Session) -> int:
    """Remove images that nobody needs, after a question, and print what that freed."""
    everything = parsed.flag("all")
    if not parsed.flag("force") and not confirmed(_PRUNE_ALL if everything else _PRUNE):
        return 0
    with session.engine(reading=True) as engine:
        pruned = engine.prune_images(filters=parsed.many("filter"), everything=everything)
    if pruned.lines:
        print("Deleted Images:")
        for line in pruned.lines:
            print(line[0].lower() + line[1:])
        print()
    print(f"Total reclaimed space: {human_size(pruned.freed_bytes)}")
    return 0


def tag(parsed: Parsed, session: Session) -> int:
    """Give an image one more name."""
    source, target = parsed.arguments
    with session.engine(reading=True) as engine:
        engine.tag(source, target)
    return 0


VERBS = {
    "images": Verb(IMAGES, images),
    "rmi": Verb(RMI, rmi),
    "tag": Verb(TAG, tag),
    "image prune": Verb(PRUNE, prune),
}


def _is_not_found(error: Exception) -> bool:
    from store.errors import NotFound

    return isinstance(error, NotFound)


def _rows(
    image: Image, names: tuple[Reference, ...], *, whole: bool, digests: bool
) -> Iterator[dict[str, str]]:
    """Yield a row for each tag, and for a repository with a digest alone; one without any name.

    digests: with a row for each digest that a repository knows the image by.
    """
    created = parse_time(image.config.created)
    size = human_size(image.size_bytes)
    common = {
        "ID": image.id if whole else short_id(image.id),
        "CreatedSince": ago(created),
        "CreatedAt": local_time(created),
        "Size": size,
        "VirtualSize": size,
        "Containers": "N/A",
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
    }

    def row(repository: str, tag: str | None, digest: str | None) -> dict[str, str]:
        cells = {"Repository": repository, "Tag": tag or _NONE, "Digest": digest or _NONE}
        return {**cells, **common}

    known: dict[str, list[str]] = {}
    for name in names:
        if name.digest:
            known.setdefault(name.familiar_name, []).append(name.digest)
    for name in names:
        if name.tag:
            for digest in (known.get(name.familiar_name) if digests else None) or [""]:
                yield row(name.familiar_name, name.tag, digest)
    tagged = {name.familiar_name for name in names if name.tag}
    for repository in sorted(known.keys() - tagged):
        for digest in known[repository] if digests else [""]:
            yield row(repository, None, digest)
    if not names:
        yield row(_NONE, None, None)
