"""The verb imagetools inspect: what a name means at its registry."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pybuild.cli.celltext import plain_text
from pybuild.cli.options import Parsed, Syntax, flag, usage_error, value
from pybuild.cli.transfers import TERMS, terms_of
from pybuild.cli.verb import Session, Verb

if TYPE_CHECKING:
    from pybuild.engine.remoteimages import RemoteImage

INSPECT = Syntax(
    verb="imagetools inspect",
    usage="imagetools inspect [OPTIONS] NAME[:TAG|@DIGEST]",
    summary="Show platforms and attestations of an image at its registry; no layer is fetched.",
    options=(
        value("format", "FORM", "json or a template: {{json .SBOM}} {{.Manifest.digest}} …"),
        flag("raw", "print the index or the manifest as it is"),
        *TERMS,
    ),
    at_least=1,
    at_most=1,
)


def inspect(parsed: Parsed, session: Session) -> int:
    """Print what a name means."""
    (name,) = parsed.arguments
    form, terms = parsed.text("format"), terms_of(parsed)
    if form is not None and parsed.flag("raw"):
        raise usage_error(INSPECT, "--format and --raw cannot be used together")
    with session.engine(reading=True) as engine:
        if form is not None:
            from pybuild.cli.template import Template, to_json

            template = None if form == "json" else Template(form)
            details = engine.remote_details(name, terms=terms)
            print(to_json(details) if template is None else template.render(details))
            return 0
        image = engine.inspect_remote(name, terms=terms)
    if parsed.flag("raw"):
        sys.stdout.flush()
        sys.stdout.buffer.write(image.root.data)
        return 0
    print("\n".join(_lines(image)))
    return 0


def _lines(image: RemoteImage) -> Iterator[str]:
    """Yield the listing. Source: buildx util/imagetools/printers.go."""
    root = image.root.descriptor
    yield f"Name:      {image.reference}"
    yield f"MediaType: {root.media_type}"
    yield f"Digest:    {root.digest}"
    if not image.entries:
        return
    yield ""
    yield "Manifests:"
    for number, entry in enumerate(image.entries):
        if number:
            yield ""
        rows = [
            ("Name", f"{image.reference.name}@{entry.digest}"),
            ("MediaType", entry.media_type),
            ("Platform", str(entry.platform) if entry.platform else ""),
            ("Attested", ", ".join(image.kinds(entry))),
        ]
        yield from (f"  {key + ':':<12} {plain_text(text)}" for key, text in rows if text)
        if entry.annotations:
            yield "  Annotations:"
            pairs = sorted(entry.annotations.items())
            yield from (f"    {plain_text(key)}: {plain_text(text)}" for key, text in pairs)


VERBS = {"imagetools inspect": Verb(INSPECT, inspect)}
