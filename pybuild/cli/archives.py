"""The verbs export, import, load and save."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, BinaryIO

from pybuild.cli.options import Parsed, Syntax, flag, many, value
from pybuild.cli.verb import Session, Verb
from pybuild.errors import UsageError

if TYPE_CHECKING:
    from pybuild.engine.engine import Engine

EXPORT = Syntax(
    verb="export",
    usage="export [OPTIONS] CONTAINER",
    summary="Write the file system of a container as a tar.",
    options=(value("output", "FILE", "file to write (default: stdout)", "o"),),
    at_least=1,
    at_most=1,
)
IMPORT = Syntax(
    verb="import",
    usage="import [OPTIONS] FILE|URL|- [NAME[:TAG]]",
    summary="Make an image of a file system tarball.",
    options=(
        many("change", "INSTRUCTION", 'Dockerfile instruction for the image, as CMD ["sh"]', "c"),
        value("message", "TEXT", "comment for the history", "m"),
        value("platform", "OS/ARCH", "platform of the image"),
    ),
    at_least=1,
    at_most=2,
)
LOAD = Syntax(
    verb="load",
    usage="load [OPTIONS]",
    summary="Load images from an archive (docker save, OCI layout) on stdin or in a file.",
    options=(
        value("input", "FILE", "archive to read, or folder of an OCI layout", "i"),
        value("platform", "OS/ARCH", "load only the images for this platform"),
        flag("quiet", "as docker's; there is no progress to be quiet about", "q"),
    ),
)
SAVE = Syntax(
    verb="save",
    usage="save [OPTIONS] IMAGE...",
    summary="Save images to an archive that docker load reads and that is an OCI layout too.",
    options=(
        value("output", "FILE", "file to write (default: stdout)", "o"),
        value("platform", "OS/ARCH", "of each only the image for this platform"),
    ),
    at_least=1,
    at_most=None,
)


def export(parsed: Parsed, session: Session) -> int:
    """Write a container's file system; a file appears whole or not at all."""
    (name,) = parsed.arguments
    target = parsed.text("output")
    with session.engine(reading=True) as engine:
        if target is not None and target != "-":
            engine.export_file(name, target)
        else:
            engine.export(name, _standard_output("export"))
    return 0


def import_(parsed: Parsed, session: Session) -> int:
    """Make an image of a file system tarball and print its ID."""
    source, *rest = parsed.arguments
    with session.engine() as engine, _source_of(source, engine) as stream:
        image = engine.import_rootfs(
            stream,
            reference=rest[0] if rest else None,
            changes=parsed.many("change"),
            message=parsed.text("message") or f"Imported from {source}",
            platform=parsed.text("platform"),
        )
    print(image.id)
    return 0


def _source_of(source: str, engine: Engine) -> AbstractContextManager[BinaryIO]:
    if source.startswith(("http://", "https://")):
        print(f"Downloading from {source}", file=sys.stderr, flush=True)
        return engine.downloaded(source)
    return reading(source)


def load(parsed: Parsed, session: Session) -> int:
    """Load images and print the name of each."""
    source, platform = parsed.text("input"), parsed.text("platform")
    with session.engine() as engine:
        if source is not None and os.path.isdir(source):
            loaded = engine.load(source, platform)
        else:
            with reading(source or "-") as stream:
                loaded = engine.load(stream, platform)
    for image, reference in loaded:
        if reference is None:
            print(f"Loaded image ID: {image.id}")
        else:
            print(f"Loaded image: {reference.familiar()}")
    return 0


def save(parsed: Parsed, session: Session) -> int:
    """Save images; a file appears whole or not at all."""
    target, platform = parsed.text("output"), parsed.text("platform")
    with session.engine(reading=True) as engine:
        if target is not None and target != "-":
            engine.save_file(parsed.arguments, target, platform)
        else:
            engine.save(parsed.arguments, _standard_output("save"), platform)
    return 0


VERBS = {
    "export": Verb(EXPORT, export),
    "import": Verb(IMPORT, import_),
    "load": Verb(LOAD, load),
    "save": Verb(SAVE, save),
}


def _standard_output(what: str) -> BinaryIO:
    """Return stdout for bytes. Raises UsageError for a terminal."""
    if sys.stdout.isatty():
        raise UsageError(
            f"cowardly refusing to {what} to a terminal",
            hint="use the -o flag or redirect",
        )
    return sys.stdout.buffer


@contextmanager
def reading(source: str) -> Iterator[BinaryIO]:
    """Open the file `source`, stdin for `-`; a terminal is refused: nobody types an archive."""
    if source != "-":
        with open(source, "rb") as stream:
            yield stream
        return
    if sys.stdin.isatty():
        raise UsageError(
            "an archive is not read from a terminal", hint="name a file, or redirect stdin"
        )
    yield sys.stdin.buffer
