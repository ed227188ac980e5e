"""What contextlib.suppress does, without importing contextlib into a launcher."""


class tolerate:
    """Swallow exceptions of the given types; say at the place of use why that is right."""

    def __init__(self, *kinds: type[BaseException]) -> None:
        self._kinds = kinds

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, self._kinds)
