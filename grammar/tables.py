"""Where Lark may keep the tables that it makes of a grammar: 20 to 50 ms of work each.

Without a folder they are made anew in each process. With one, it is the only thing on disk that
this package ever looks at.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_folder: ContextVar[str | None] = ContextVar("tables", default=None)


def folder() -> str | None:
    """Return the folder for tables, None where there is none."""
    return _folder.get()


@contextmanager
def kept_in(path: str) -> Iterator[None]:
    """Let Lark keep its tables in the folder `path`, which only we can write to."""
    token = _folder.set(path)
    try:
        yield
    finally:
        _folder.reset(token)
