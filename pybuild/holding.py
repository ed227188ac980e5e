"""`pybuild.container` and `pybuild.run`: containers of images, from a program."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypedDict, Unpack

from pybuild.engine.engine import Engine

if TYPE_CHECKING:
    from pybuild.engine.live import Container, Finished
    from pybuild.engine.runrequest import RunRequest

# What a container that is never started would run: a request needs a command.
_NOTHING = ("true",)


class ContainerOptions(TypedDict, total=False):
    """The options of a container; what is left out is as the image or `pybuild run` has it.

    entrypoint: instead of the image's; empty for none. env: by names. folders: of this machine, to
    where they are seen, with `:ro` at the end to be read only. network: as `run --network` has it.
    """

    entrypoint: tuple[str, ...]
    env: Mapping[str, str] | None
    user: str
    working_dir: str
    folders: Mapping[str | os.PathLike[str], str]
    network: str
    hostname: str
    name: str
    read_only: bool
    pull: str


def container(
    image: str,
    *command: str,
    start: bool = True,
    root: str | os.PathLike[str] | None = None,
    **options: Unpack[ContainerOptions],
) -> Container:
    """Return a container of an image; a context manager at whose end it is killed and removed.

    command: instead of the image's own. start: run it; without, the container waits for `exec` and
    `start`. root: the folder of the store.
    Raises ImageMissing, ContainerError, NotPrivileged; RuntimeFailure where it cannot be started.
    """
    with ExitStack() as stack:
        engine = stack.enter_context(Engine(None if root is None else os.fspath(root)))
        made = stack.enter_context(engine.container(_request(image, command, start, options)))
        if start:
            made.start()
        stack.pop_all()
        return made.keep(engine)


def run(
    image: str,
    *command: str,
    root: str | os.PathLike[str] | None = None,
    **options: Unpack[ContainerOptions],
) -> Finished:
    """Run a command, or the image's own, in a new container to its end; return what it wrote.

    Raises as `container`.
    """
    from pybuild.engine.live import Finished

    with container(image, *command, root=root, **options) as made:
        code = made.wait()
        return Finished(made.args, code, made.stdout, made.stderr)


def _request(
    image: str, command: tuple[str, ...], start: bool, options: ContainerOptions
) -> RunRequest:
    from pybuild.engine.runrequest import HostFolder, RunRequest

    unknown = options.keys() - ContainerOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"container: unknown option {min(unknown)!r}")
    folders = tuple(
        HostFolder(
            os.path.abspath(source),
            target.removesuffix(":ro"),
            read_only=target.endswith(":ro"),
            must_exist=True,
        )
        for source, target in options.get("folders", {}).items()
    )
    idle = not start and not command
    return RunRequest(
        image=image,
        command=_NOTHING if idle else command or None,
        entrypoint=() if idle else options.get("entrypoint"),
        env=tuple(f"{name}={text}" for name, text in (options.get("env") or {}).items()),
        user=options.get("user"),
        working_dir=options.get("working_dir"),
        folders=folders,
        network=options.get("network", ""),
        hostname=options.get("hostname"),
        name=options.get("name"),
        read_only=options.get("read_only", False),
        pull=options.get("pull", "missing"),
    )
