"""`pybuild.build`: a build from a program, and what came of it as objects.

Owns the words of the Python API for a build and the translation of what can go wrong into its
errors. Everything is done by `Engine`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Unpack

from pybuild import errors
from pybuild.buildoptions import BuildOptions, request_of
from pybuild.engine.engine import Engine
from values.classes import dataclass, field

if TYPE_CHECKING:
    from builder.causes import Cause
    from builder.events import Event
    from pybuild.engine.filetree import FileTree
    from pybuild.engine.journal import JournalStep
    from pybuild.engine.live import Container, Finished


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a build.

    name: as progress shows it, `[web 2/5] RUN make`. instruction: its text in the Dockerfile, and
    line: where it stands there. status: cached, done or adopted. seconds: how
    long it took this time. causes: why it ran; none where it did not. size_bytes: of its layer.
    cpu_seconds, peak_memory_bytes: None where nothing was measured.
    """

    number: int
    name: str
    instruction: str
    stage: str
    line: int
    status: str
    seconds: float
    causes: tuple[Cause, ...]
    size_bytes: int | None
    cpu_seconds: float | None
    peak_memory_bytes: int | None
    build_id: str
    root: str = field(repr=False)

    @property
    def ran(self) -> bool:
        """Whether it was not cached."""
        return self.status != "cached"

    @property
    def why(self) -> str:
        """The first cause in a sentence, empty where it did not run."""
        return self.causes[0].text if self.causes else ""

    def log(self) -> str:
        """Return all that it wrote in this build. Raises PybuildError where that was pruned."""
        from pybuild.engine.journal import steps_of

        with Engine(self.root) as engine:
            build = engine.journal(self.build_id)
            path = engine.log_file(build, steps_of(build, str(self.number)))
            if path is None:
                return ""
            with open(path, "rb") as file:
                return file.read().decode(errors="replace")

    def open(self) -> FileTree:
        """Open the files that were there after it; a context manager. Raises PybuildError."""
        with ExitStack() as stack:
            engine = stack.enter_context(Engine(self.root))
            return engine.open_step(self.build_id, self.number).keep(stack.pop_all())


@dataclass(frozen=True, slots=True)
class Build:
    """A build that went well.

    image_id: None where none was asked for (`output="type=local,…"`). names: what it is called now.
    steps: in the order of their numbers. warnings: `Rule: message`. metadata: what
    `--metadata-file` says. root: the folder of the store.
    """

    build_id: str
    image_id: str | None
    names: tuple[str, ...]
    steps: tuple[Step, ...]
    warnings: tuple[str, ...]
    seconds: float
    metadata: Mapping[str, object] = field(repr=False)
    root: str = field(repr=False)

    def step(self, word: str | int) -> Step:
        """Return the one step that a number, a place (`web 3/5`) or a part of its text means.

        Raises LookupError for none and for several.
        """
        from pybuild.engine.explanations import means

        found = [step for step in self.steps if means(step.number, step.name, str(word))]
        if len(found) != 1:
            names = ", ".join(step.name for step in found or self.steps)
            raise LookupError(f"{word!r} means {len(found)} steps: {names}")
        return found[0]

    @property
    def ran(self) -> tuple[Step, ...]:
        """The steps that were not cached."""
        return tuple(step for step in self.steps if step.ran)

    def open(self) -> FileTree:
        """Open the image's files; a context manager."""
        with ExitStack() as stack:
            engine = stack.enter_context(Engine(self.root))
            return engine.open_image(self._image()).keep(stack.pop_all())

    def inspect(self) -> dict[str, object]:
        """Return everything about the image, as docker's JSON."""
        with Engine(self.root) as engine:
            return engine.inspect(self._image(), "image")

    def run(self, *command: str, env: Mapping[str, str] | None = None) -> Finished:
        """Run a command, or the image's own, in a new container to its end."""
        from pybuild.holding import run

        return run(self._image(), *command, env=env, root=self.root)

    def container(
        self, *command: str, start: bool = True, env: Mapping[str, str] | None = None
    ) -> Container:
        """Return a container of the image; a context manager. See `pybuild.container`."""
        from pybuild.holding import container

        return container(self._image(), *command, start=start, env=env, root=self.root)

    def _image(self) -> str:
        if self.image_id is None:
            raise errors.PybuildError("the build made no image: its output was something else")
        return self.image_id


def build(
    context: str | os.PathLike[str] = ".",
    *,
    root: str | os.PathLike[str] | None = None,
    on_event: Callable[[Event], None] | None = None,
    **options: Unpack[BuildOptions],
) -> Build:
    """Build an image and return what came of it.

    context: a folder, or what the command line takes. root: the folder of the store, as `--root`.
    on_event: takes the progress (builder.events), from several threads, one at a time.
    options: see BuildOptions. Raises BuildError; TypeError for an option that there is not.
    """
    heard = _Heard(on_event)
    try:
        with (
            Engine(None if root is None else os.fspath(root)) as engine,
            request_of(os.fspath(context), options) as request,
        ):
            done = engine.build(request, heard)
            journal = engine.journal(done.build_id)
            return Build(
                build_id=done.build_id,
                image_id=done.image_id,
                names=tuple(reference.familiar() for reference in done.references),
                steps=tuple(_step(step, engine.root) for step in journal.steps),
                warnings=(*heard.warnings, *map(str, engine.damage)),
                seconds=journal.line.seconds,
                metadata=done.metadata,
                root=engine.root,
            )
    except Exception as error:
        failure = translated(error, heard.build_id)
        if failure is None:
            raise
        raise failure from error


class _Heard:
    """Listens to a build's events, and passes them on."""

    def __init__(self, on_event: Callable[[Event], None] | None) -> None:
        self._on_event = on_event
        self.build_id: str | None = None
        self.warnings: list[str] = []

    def __call__(self, event: Event) -> None:
        from builder.events import BuildStarted, BuildWarning

        if isinstance(event, BuildStarted):
            self.build_id = event.build_id
        elif isinstance(event, BuildWarning):
            where = f" (line {event.line})" if event.line is not None else ""
            self.warnings.append(f"{event.rule}: {event.message}{where}")
        if self._on_event is not None:
            self._on_event(event)


def _step(step: JournalStep, root: str) -> Step:
    return Step(
        number=step.row.number,
        name=step.name,
        instruction=step.row.title,
        stage=step.row.stage,
        line=step.line,
        status=step.row.status,
        seconds=step.seconds,
        causes=step.causes,
        size_bytes=step.size_bytes,
        cpu_seconds=step.cpu_seconds,
        peak_memory_bytes=step.peak_memory_bytes,
        build_id=step.row.build_id,
        root=root,
    )


def translated(error: Exception, build_id: str | None) -> errors.BuildError | None:
    """Return what of a build went wrong as an error of the API, None for a bug."""
    from pybuild.cli.report import is_expected

    if not is_expected(error):
        return None
    several: Iterable[Exception] = getattr(error, "errors", ()) or (error,)
    found = [_translated(each, build_id) for each in several]
    for each in found:
        each.errors = tuple(found)
    return found[0]


def _translated(error: Exception, build_id: str | None) -> errors.BuildError:
    from builder import errors as theirs
    from grammar.errors import GrammarError

    kinds: tuple[tuple[type[Exception], type[errors.BuildError]], ...] = (
        (theirs.StepFailed, errors.StepFailed),
        (theirs.SecretLeaked, errors.SecretLeaked),
        (theirs.BudgetExceeded, errors.BudgetExceeded),
        (theirs.Canceled, errors.BuildCanceled),
        (GrammarError, errors.DockerfileError),
        (errors.UsageError, errors.InvalidRequest),
        (errors.NotPrivileged, errors.BuildNotPrivileged),
    )
    kind = next((ours for each, ours in kinds if isinstance(error, each)), errors.BuildError)
    place = getattr(error, "place", None)
    found = kind(
        str(error),
        hint=getattr(error, "hint", None),
        dockerfile=place.dockerfile if place else getattr(error, "name", "") or "",
        line=place.first_line if place else getattr(error, "line", None),
        step=getattr(error, "step_name", ""),
        exit_code=getattr(error, "exit_code", None),
        log_tail=getattr(error, "output", ""),
        log_path=getattr(error, "log_path", None),
        build_id=build_id,
    )
    # They stand below the traceback.
    for note in (found.log_tail, found.hint and f"hint: {found.hint}"):
        if note:
            found.add_note(note)
    return found
