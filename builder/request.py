"""What a build is asked to do, as one value."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Output:
    """One `--output`: `type` is image, oci, …; `options` are its other keys in order."""

    type: str
    options: tuple[tuple[str, str], ...] = ()

    def option(self, key: str) -> str | None:
        """Return the last value given for `key`, or None."""
        return next((value for name, value in reversed(self.options) if name == key), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """A build.

    context: a directory. dockerfile: a path relative to the working directory, `-` for the text
    in `dockerfile_text`, None for `Dockerfile` in the context.
    build_args, labels: in the order given; a later one of the same name wins.
    jobs: how many steps may run at once; None means the number of processors.
    """

    context: str
    dockerfile: str | None = None
    dockerfile_text: bytes | None = None
    tags: tuple[str, ...] = ()
    build_args: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    target: str | None = None
    no_cache: bool = False
    platform: str | None = None
    outputs: tuple[Output, ...] = ()
    jobs: int | None = None
