"""The verbs pull and push."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from pybuild.cli.options import Option, Parsed, Syntax, flag, many, value
from pybuild.cli.verb import Session, Verb

if TYPE_CHECKING:
    from pybuild.cli.transferprogress import LiveTransfer, PlainTransfer
    from pybuild.engine.registries import RegistryTerms
    from registry_client.events import Event, OnEvent
    from store.reference import Reference

# What registries have to prove; login has them too.
TERMS: tuple[Option, ...] = (
    flag("tls-verify", "=false takes any certificate, and plain HTTP (default: true)"),
    many("ca", "FILE", "PEM file with certificates to trust; may be given again"),
)
PULL = Syntax(
    verb="pull",
    usage="pull [OPTIONS] NAME[:TAG|@DIGEST]",
    summary="Bring an image from a registry into the store.",
    options=(
        flag("all-tags", "pull all tags of the repository", "a"),
        value("platform", "OS/ARCH", "platform of the image (default: this machine's)"),
        flag("quiet", "print the image's name only", "q"),
        *TERMS,
    ),
    at_least=1,
    at_most=1,
    later="disable-content-trust",
)
PUSH = Syntax(
    verb="push",
    usage="push [OPTIONS] NAME[:TAG]",
    summary="Bring an image to its registry.",
    options=(
        flag("all-tags", "push all tags of the repository", "a"),
        flag("quiet", "print the image's name only", "q"),
        *TERMS,
    ),
    at_least=1,
    at_most=1,
    later="disable-content-trust platform",
)


def pull(parsed: Parsed, session: Session) -> int:
    """Pull images and say what they are."""
    (name,) = parsed.arguments
    quiet, everything = parsed.flag("quiet"), parsed.flag("all-tags")
    watcher = _Watcher(pushes=False, quiet=quiet)
    if not quiet and not everything:
        _say_default_tag(name)
    with session.engine() as engine:
        try:
            pulled = engine.pull(
                name,
                platform=parsed.text("platform") or os.environ.get("DOCKER_DEFAULT_PLATFORM"),
                all_tags=everything,
                terms=terms_of(parsed),
                watch=watcher,
            )
        finally:
            watcher.finish()
    for one in pulled:
        if not quiet:
            print(f"Digest: {one.target.digest}")
            news = "Downloaded newer image for" if one.is_new else "Image is up to date for"
            print(f"Status: {news} {one.reference.familiar()}")
        print(one.reference)
    return 0


def push(parsed: Parsed, session: Session) -> int:
    """Push images and say under which digest they are there."""
    (name,) = parsed.arguments
    quiet, everything = parsed.flag("quiet"), parsed.flag("all-tags")
    watcher = _Watcher(pushes=True, quiet=quiet)
    if not quiet and not everything:
        _say_default_tag(name)
    with session.engine(reading=True) as engine:
        try:
            pushed = engine.push(name, all_tags=everything, terms=terms_of(parsed), watch=watcher)
        finally:
            watcher.finish()
    for one in pushed:
        if quiet:
            print(one.reference)
        else:
            size = one.target.size_bytes
            print(f"{one.reference.tag}: digest: {one.target.digest} size: {size}")
    return 0


VERBS = {"pull": Verb(PULL, pull), "push": Verb(PUSH, push)}


def terms_of(parsed: Parsed) -> RegistryTerms:
    """Return what the command line says that registries have to prove."""
    from pybuild.engine.registries import RegistryTerms

    return RegistryTerms(parsed.text("tls-verify") != "false", parsed.many("ca"))


class _Shown:
    """The progress of one transfer after the other. shown: that of the last one."""

    shown: PlainTransfer | LiveTransfer | None = None

    def finish(self) -> None:
        """Leave the last state on the screen."""
        if self.shown is not None:
            self.shown.finish()
            self.shown = None


class PullWatcher(_Shown):
    """Says on stderr that an image is pulled because it is not here, and shows its progress."""

    def __call__(self, reference: Reference) -> OnEvent:
        """Begin the progress of a pull."""
        from pybuild.cli.transferprogress import transfer_progress

        print(f"Unable to find image '{reference.familiar()}' locally", file=sys.stderr)
        self.shown = transfer_progress(sys.stderr, pushes=False)
        return self.shown


class _Watcher(_Shown):
    """Begins the progress of each image of a transfer."""

    def __init__(self, *, pushes: bool, quiet: bool) -> None:
        self._pushes = pushes
        self._quiet = quiet
        self._repository = ""

    def __call__(self, reference: Reference) -> OnEvent:
        if self._quiet:
            return lambda _event: None
        from pybuild.cli.transferprogress import transfer_progress

        self.finish()
        shown = self.shown = transfer_progress(sys.stdout, pushes=self._pushes)
        if self._pushes:
            self._announce_push(reference)
            return shown
        return _after(partial(_announce_pull, reference), shown)

    def _announce_push(self, reference: Reference) -> None:
        if reference.name != self._repository:
            self._repository = reference.name
            print(f"The push refers to repository [{reference.name}]", flush=True)


def _announce_pull(reference: Reference) -> None:
    print(f"{reference.tag or reference.digest}: Pulling from {reference.repository}", flush=True)


def _after(announce: Callable[[], None], on_event: OnEvent) -> OnEvent:
    """Return `on_event` with `announce` called before its first event."""
    waiting = [announce]

    def take(event: Event) -> None:
        while waiting:
            waiting.pop()()
        on_event(event)

    return take


def _say_default_tag(name: str) -> None:
    from store.reference import Reference

    reference = Reference.parse(name)
    if reference.tag == "latest" and not name.endswith(":latest"):
        print("Using default tag: latest", flush=True)
