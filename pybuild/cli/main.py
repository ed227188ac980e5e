"""The command line: global options, the verb table, and what happens to errors.

A first word that is a known verb is the verb; anything else is a build (`./run` names a directory
called run). Only the module of the named verb is imported.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from pybuild.cli import nouns
from pybuild.cli.options import help_of, parse, suggestion
from pybuild.cli.report import EXIT_BROKEN_PIPE, exit_code, report
from pybuild.cli.verb import Session, Verb
from pybuild.errors import NotSupported, PybuildError, UsageError

VERBS = {
    "build": "pybuild.cli.build",
    "bake": "pybuild.cli.bake",
    "repro": "pybuild.cli.repro",
    "lock": "pybuild.cli.lock",
    "run": "pybuild.cli.run",
    "enter": "pybuild.cli.enter",
    "ps": "pybuild.cli.containers",
    "rm": "pybuild.cli.containers",
    "container prune": "pybuild.cli.containers",
    "images": "pybuild.cli.images",
    "rmi": "pybuild.cli.images",
    "tag": "pybuild.cli.images",
    "image prune": "pybuild.cli.images",
    "image tree": "pybuild.cli.imagefiles",
    "image diff": "pybuild.cli.imagefiles",
    "blame": "pybuild.cli.imagefiles",
    "inspect": "pybuild.cli.inspect",
    "history": "pybuild.cli.inspect",
    "export": "pybuild.cli.archives",
    "import": "pybuild.cli.archives",
    "load": "pybuild.cli.archives",
    "save": "pybuild.cli.archives",
    "pull": "pybuild.cli.transfers",
    "push": "pybuild.cli.transfers",
    "imagetools inspect": "pybuild.cli.imagetools",
    "login": "pybuild.cli.login",
    "logout": "pybuild.cli.login",
    "context ls": "pybuild.cli.contextlist",
    "cache ls": "pybuild.cli.cache",
    "cache du": "pybuild.cli.cache",
    "cache show": "pybuild.cli.cacheshow",
    "cache prune": "pybuild.cli.cacheprune",
    "cache verify": "pybuild.cli.cacheprune",
    "cache why": "pybuild.cli.why",
    "plan": "pybuild.cli.plan",
    "cache mounts ls": "pybuild.cli.cachemounts",
    "cache mounts tree": "pybuild.cli.cachemounts",
    "cache mounts rm": "pybuild.cli.cachemounts",
    "cache mounts export": "pybuild.cli.cachemounts",
    "cache mounts import": "pybuild.cli.cachemounts",
    "builds ls": "pybuild.cli.builds",
    "builds show": "pybuild.cli.buildshow",
    "builds logs": "pybuild.cli.builds",
    "builds compare": "pybuild.cli.buildshow",
    "builds report": "pybuild.cli.builds",
    "builds rm": "pybuild.cli.builds",
    "info": "pybuild.cli.system",
    "version": "pybuild.cli.system",
    "system check": "pybuild.cli.system",
    "system df": "pybuild.cli.diskusage",
    "system prune": "pybuild.cli.system",
}

# The longer spellings that docker has for the same verbs.
_ALIASES = {
    "image build": "build",
    "image history": "history",
    "image import": "import",
    "image inspect": "inspect",
    "image list": "images",
    "image load": "load",
    "image ls": "images",
    "image pull": "pull",
    "image push": "push",
    "image remove": "rmi",
    "image rm": "rmi",
    "image save": "save",
    "image tag": "tag",
    "container export": "export",
    "container inspect": "inspect",
    "container list": "ps",
    "container ls": "ps",
    "container ps": "ps",
    "container remove": "rm",
    "container rm": "rm",
    "container run": "run",
    "builder build": "build",
    "builder prune": "cache prune",
    "buildx du": "cache du",
    "buildx prune": "cache prune",
    "buildx bake": "bake",
    "buildx build": "build",
    "buildx imagetools inspect": "imagetools inspect",
    "manifest inspect": "imagetools inspect",
    "buildx history ls": "builds ls",
    "buildx history logs": "builds logs",
    "buildx history inspect": "builds show",
    "buildx history rm": "builds rm",
    "system info": "info",
}

# What a longer spelling says besides its verb.
_ALIAS_OPTIONS = {
    "image inspect": ["--type=image"],
    "container inspect": ["--type=container"],
    "manifest inspect": ["--raw"],
}

# What begins the name of several verbs and is none itself: cache, cache mounts.
_GROUPS = frozenset(
    name.rpartition(" ")[0] for name in [*VERBS, *_ALIASES] if " " in name
) | frozenset(name.partition(" ")[0] for name in VERBS if " " in name)

# Docker's verbs that this version does not have.
_LATER_WORDS = """
attach commit compose cp create diff events exec kill logs
network pause plugin port rename restart search start stats stop top unpause
update volume wait
"""
_LATER = frozenset(_LATER_WORDS.split())

_HELP = """\
Usage: pybuild [--root DIR] [--debug] [build] [OPTIONS] CONTEXT
       pybuild [--root DIR] [--debug] VERB [OPTIONS] [ARGUMENTS]

Build Dockerfiles, run the images and keep them, without a daemon.

Verbs:
  build            Build an image from a Dockerfile (without a verb: the same)
  plan             Say which steps would run and why, running nothing
  bake             Build several targets of a bake file in one run
  repro            Build twice and name the first file that differs
  lock             Write down what images, addresses and branches are now
  run              Run a command in a new container
  enter            Open a shell in the state that a build's step left
  ps               List containers
  rm               Remove containers
  container prune  Remove containers that do not run
  images           List images
  rmi              Remove images
  image prune      Remove images that nobody needs
  tag              Give an image one more name
  inspect          Show everything about images and containers as JSON
  history          Show how an image came about
  image tree       Show the layers of an image with sizes and waste
  image diff       Show how two images differ
  blame            Show which step last wrote a path of an image
  export           Write the file system of a container as a tar
  import           Make an image of a file system tarball
  load             Load images from an archive
  save             Save images to an archive
  pull             Bring an image from a registry
  push             Bring an image to its registry
  imagetools inspect   Show platforms and attestations of an image at its registry
  login            Show credentials to a registry and keep them
  logout           Forget the credentials for a registry
  context ls       List the files that a build's context has, and why
  cache ls         List what the build cache holds
  cache du         Show what the build cache takes on disk
  cache show       Show all that a result was made of
  cache prune      Let go of build cache that is not needed
  cache verify     Read every byte, drop what is damaged
  cache why        Show why the steps of a build ran
  cache mounts ls  List the directories of RUN --mount=type=cache
  cache mounts tree    Show what is in a cache mount
  cache mounts rm      Clear cache mounts
  cache mounts export  Write cache mounts to an archive
  cache mounts import  Take cache mounts in from an archive
  builds ls        List the builds of the journal
  builds show      Show all that is known of a build
  builds logs      Show the whole log of a build or of one step
  builds compare   Show two builds side by side
  builds report    Write a page about a build, as one HTML file
  builds rm        Remove builds and their logs
  info             Show this installation
  version          Show the version
  system check     Look for damage in the store
  system df        Show what images, containers and the build cache take
  system prune     Remove what nothing refers to

Global options:
  --root DIR       Folder of the store (PYBUILD_ROOT)
  --debug          Show tracebacks
  --version        Show the version
  -h, --help       Show this page; pybuild VERB --help shows the verb's
"""


def run(words: Sequence[str]) -> int:
    """Run one command line (without the program's name) and return the exit code."""
    _open_standard_streams()
    debug = "--debug" in words
    try:
        code = _run(list(words))
        sys.stdout.flush()
    except BrokenPipeError as error:
        if debug:
            report(error, debug=True)
        _drop_output()
        return EXIT_BROKEN_PIPE
    except OSError as error:
        # What verbs do with files is reported in `_run`: here nothing but writing to stdout fails.
        failure = _output_failure(error)
        report(failure, debug=debug)
        _drop_output()
        return exit_code(failure)
    return code


def _run(words: list[str]) -> int:
    session, verb = Session(), None
    try:
        session, words = _global_options(words)
        if not words:
            print(_HELP, end="")
            return 0
        noun = _asked_noun(words)
        if noun is not None:
            print(nouns.page(noun, _lines_of(noun)), end="")
            return 0
        name, words = find_verb(words)
        verb = load_verb(name)
        parsed = parse(verb.syntax, words)
        if parsed.wants_help:
            print(help_of(verb.syntax), end="")
            return 0
        return verb.run(parsed, session)
    except BrokenPipeError:
        raise
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, OSError) and _is_of_printing(error):
            raise
        sys.stdout.flush()
        report(error, debug=session.debug)
        return exit_code(error, in_container=verb is not None and verb.in_container)


def _is_of_printing(error: OSError) -> bool:
    """Tell whether printing failed: verbs do nothing else themselves that has no file's name."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals.get("__name__", "") if trace is not None else ""
    return error.filename is None and module.startswith("pybuild.cli.")


def _output_failure(error: OSError) -> PybuildError:
    cause = (error.strerror or str(error)).lower()
    failure = PybuildError(f"standard output cannot be written: {cause}")
    failure.__cause__ = error
    return failure


def find_verb(words: list[str]) -> tuple[str, list[str]]:
    """Return the verb that `words` (not empty) name and the words that are left for it.

    Raises UsageError for a noun with a wrong word and for what is neither a verb nor a context.
    """
    first = words[0]
    if first in _GROUPS:
        for count in (2, 3):
            spelling = " ".join(words[:count])
            name = _ALIASES.get(spelling, spelling)
            if name in VERBS:
                return name, [*_ALIAS_OPTIONS.get(spelling, ()), *words[count:]]
        noun, rest = _noun_of(words)
        raise nouns.unknown(noun, rest[0] if rest else "", _lines_of(noun))
    if first in VERBS:
        return first, words[1:]
    if first in _LATER:
        raise NotSupported(
            f"{first}: not supported yet", hint=f"to build a directory of that name: ./{first}"
        )
    if _is_no_context(first):
        close = suggestion(first, [*VERBS, *_LATER])
        hint = f"did you mean {close}?" if close else "pybuild --help shows the verbs"
        raise UsageError(f'"{first}" is neither a verb nor a directory', hint=hint)
    return "build", words


def _noun_of(words: list[str]) -> tuple[str, list[str]]:
    """Return the longest noun that `words` begin with, "" where there is none, and the rest."""
    for count in (2, 1):
        noun = " ".join(words[:count])
        if noun in _GROUPS and len(words) >= count:
            return noun, words[count:]
    return "", words


def _asked_noun(words: list[str]) -> str | None:
    """Return the noun whose help is asked for: it stands alone or with --help."""
    noun, rest = _noun_of(words)
    return noun if noun and (not rest or rest[0] in nouns.HELP_WORDS) else None


def _lines_of(noun: str) -> dict[str, str]:
    rows = (line[2:].partition("  ") for line in _HELP.splitlines() if line.startswith("  "))
    summaries = {name: text.strip() for name, _, text in rows}
    return nouns.lines_of(noun, VERBS, _ALIASES, summaries)


def load_verb(name: str) -> Verb:
    """Return the verb called `name`; its module is imported now."""
    verb = import_module(VERBS[name]).VERBS[name]
    assert isinstance(verb, Verb)
    return verb


def _is_no_context(word: str) -> bool:
    """Tell whether `word` cannot start a build: no option, path, URL or file of that name."""
    return not (word.startswith("-") or "/" in word or "." in word or os.path.lexists(word))


def _global_options(words: list[str]) -> tuple[Session, list[str]]:
    root, debug = None, False
    while words:
        word, _, text = words[0].partition("=")
        if word == "--root" and text:
            root, words = text, words[1:]
        elif words[0] == "--root":
            if len(words) < 2:
                raise UsageError("--root needs a folder")
            root, words = words[1], words[2:]
        elif words[0] == "--debug":
            debug, words = True, words[1:]
        elif words[0] == "--version":
            return Session(root, debug), ["version", "--short"]
        elif words[0] in ("-h", "--help", "help"):
            return Session(root, debug), []
        else:
            break
    return Session(root, debug), words


def _open_standard_streams() -> None:
    """Make sure that 0, 1 and 2 are open, and that any name can be printed.

    A closed one would be given to the next file opened, and a container's output would land there.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number is this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - for the whole process
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            # A name that is not in the locale's charset must not stop a verb.
            reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Give stdout to /dev/null: its reader is gone, and the interpreter flushes it at exit."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
