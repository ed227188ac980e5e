"""What `pybuild.build` can be asked for, in a program's words, and the request that it makes.

The words of options with a form of their own are the command line's, read by its own parser.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TypedDict

from pybuild.cli.buildvalues import (
    allowed,
    parse_budget,
    parse_cache,
    parse_network,
    parse_output,
)

if TYPE_CHECKING:
    from builder.request import BuildRequest, SecretSource


class BuildOptions(TypedDict, total=False):
    """The options of a build; what is left out is as on the command line without the option.

    dockerfile: a path. text: the text of a Dockerfile instead. tags: names for the image.
    contexts: further contexts by their names. secrets: by their ids values (str, bytes) or files
    (pathlib.Path). output, cache_from, cache_to, budget: words as `--output`, `--cache-from`,
    `--cache-to` and `--budget` take them, one or several. platform: one, or several with commas.
    allow_secret_leak: ids of secrets that may get into the image.
    """

    dockerfile: str | os.PathLike[str]
    text: str | bytes
    tags: str | Sequence[str]
    target: str | None
    also: Sequence[str]
    build_args: Mapping[str, str]
    labels: Mapping[str, str]
    contexts: Mapping[str, str | os.PathLike[str]]
    secrets: Mapping[str, str | bytes | os.PathLike[str]]
    allow_secret_leak: Sequence[str]
    output: str | Sequence[str]
    platform: str | None
    no_cache: bool
    no_cache_stages: Sequence[str]
    pull: bool
    jobs: int | None
    network: str
    allow: str | Sequence[str]
    cache_from: str | Sequence[str]
    cache_to: str | Sequence[str]
    budget: str | Sequence[str]
    keep_failed: bool


@contextmanager
def request_of(context: str, options: BuildOptions) -> Iterator[BuildRequest]:
    """Give the request that options make, good until the block ends.

    Raises TypeError for an unknown option, UsageError for a word that makes no sense.
    """
    from builder.request import BuildRequest

    unknown = options.keys() - BuildOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"build: unknown option {min(unknown)!r}")
    text = options.get("text")
    named = options.get("dockerfile")
    if text is not None and named is not None:
        raise TypeError("build: dockerfile and text contradict each other")
    network = parse_network(options.get("network"))
    with ExitStack() as stack:
        yield BuildRequest(
            context=context,
            dockerfile="-" if text is not None else None if named is None else os.fspath(named),
            dockerfile_text=text.encode() if isinstance(text, str) else text,
            contexts=_pairs(options.get("contexts")),
            tags=_words(options.get("tags")),
            build_args=_pairs(options.get("build_args")),
            labels=_pairs(options.get("labels")),
            target=options.get("target"),
            also=tuple(options.get("also", ())),
            no_cache=options.get("no_cache", False),
            no_cache_stages=tuple(options.get("no_cache_stages", ())),
            platform=options.get("platform"),
            outputs=tuple(map(parse_output, _words(options.get("output")))),
            jobs=options.get("jobs"),
            secrets=tuple(_secrets(options.get("secrets", {}), stack)),
            allow_secret_leak=tuple(options.get("allow_secret_leak", ())),
            allow=allowed(_words(options.get("allow")), network),
            network=network,
            cache_from=tuple(
                parse_cache("cache_from", word) for word in _words(options.get("cache_from"))
            ),
            cache_to=tuple(
                parse_cache("cache_to", word) for word in _words(options.get("cache_to"))
            ),
            pull=options.get("pull", False),
            budget=parse_budget(_words(options.get("budget"))),
            keep_failed=options.get("keep_failed", True),
        )


def _words(given: str | Sequence[str] | None) -> tuple[str, ...]:
    return () if given is None else (given,) if isinstance(given, str) else tuple(given)


def _pairs(given: Mapping[str, str | os.PathLike[str]] | None) -> tuple[tuple[str, str], ...]:
    return tuple((name, os.fspath(text)) for name, text in (given or {}).items())


def _secrets(
    given: Mapping[str, str | bytes | os.PathLike[str]], stack: ExitStack
) -> Iterator[SecretSource]:
    """Yield where secrets come from: values from files in memory that are gone with `stack`."""
    from builder.request import SecretSource

    for name, secret in given.items():
        if isinstance(secret, os.PathLike):
            yield SecretSource(name, path=os.fspath(secret))
            continue
        data = secret.encode() if isinstance(secret, str) else secret
        fd = os.memfd_create(name)
        stack.callback(os.close, fd)
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        yield SecretSource(name, path=f"/proc/self/fd/{fd}")
