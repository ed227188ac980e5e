"""What every family of the engine's methods stands on: the store, and who may do what with it."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from functools import partial

from pybuild.errors import NotPrivileged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

    from store.root import Store


def default_root() -> str:
    """Return the folder of the store where no one named another.

    PYBUILD_ROOT, else /var/lib/pybuild for root and $XDG_DATA_HOME/pybuild for others: those, too,
    who are root of a user namespace only.
    """
    named = os.environ.get("PYBUILD_ROOT")
    if named:
        return named
    if os.geteuid() == 0 and os.access("/var/lib", os.W_OK):
        return "/var/lib/pybuild"
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(data, "pybuild")


def disk_of(root: str) -> tuple[int, int]:
    """Return how many bytes are free on the disk of a folder that may not be there yet, of all."""
    while not os.path.isdir(root):
        root = os.path.dirname(root)
    disk = os.statvfs(root)
    return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize


def require_privilege(what: str, *, mounts: bool = False) -> None:
    """Raise NotPrivileged when this process may not do what containers and layers need.

    Asked before the store is touched. mounts: whether it takes mounts and namespaces; all else can
    do with less, in a process that has looked for more.
    """
    from runtime.rootless.entering import has_entered, mode
    from runtime.rootless.mode import missing_capabilities

    found = mode()
    if not found.may_mount and mounts and has_entered():
        raise NotPrivileged(
            f"{what}: no mounts and no namespaces can be made here",
            hint="; ".join(map(str, found.reasons)) or None,
        )
    if found.may_mount and mounts and not found.own_proc:
        raise NotPrivileged(
            f"{what}: no /proc can be mounted for a container here",
            hint="; ".join(map(str, found.reasons)),
        )
    if not found.may_mount and not has_entered():
        lacking = ", ".join(missing_capabilities())
        raise NotPrivileged(
            f"{what}: not enough privilege: this process lacks {lacking}",
            hint="a program calls pybuild.enter_user_namespace() first; pybuild info says more",
        )


def _can_overlay(root: str) -> bool:
    from runtime.rootless.probe import can_overlay

    return can_overlay(root)


def _scratch_folder(stack: ExitStack) -> str:
    """Make a folder that is gone with `stack`."""
    from tempfile import TemporaryDirectory

    return stack.enter_context(TemporaryDirectory(prefix="pybuild-"))


class OpenStore:
    """The store that an engine works on.

    A context manager. The store is opened when something first needs it, and closed at the end.
    reading: who needs nothing but what is there finds an absent store empty, and makes none.
    on_damage: told at the end of each damaged record that was met, and counted as none.
    """

    def __init__(
        self,
        root: str | None = None,
        *,
        reading: bool = False,
        on_damage: Callable[[Exception], None] | None = None,
    ) -> None:
        self.root = os.path.abspath(root or default_root())
        self.damage: list[Exception] = []
        self._reading = reading
        self._scratch = ExitStack()
        self._on_damage = on_damage
        self._store: Store | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the store; the next use opens it again."""
        store, self._store = self._store, None
        if store is not None:
            store.__exit__(None, None, None)
        self._scratch.close()
        damage, self.damage = self.damage, []
        if self._on_damage is not None:
            for error in damage:
                self._on_damage(error)

    @contextmanager
    def store_to_ask(self) -> Iterator[Store]:
        """The store, for who only asks; where there is none an empty one for the moment.

        Raises StoreError when it cannot be opened.
        """
        from store.root import Store

        if Store.is_at(self.root):
            yield self.store
            return
        with ExitStack() as stack, Store.open(_scratch_folder(stack)) as scratch:
            yield scratch

    @property
    def store(self) -> Store:
        """The open store. Raises StoreError when it cannot be opened."""
        if self._store is None:
            from store.root import Store

            is_scratch = self._reading and not Store.is_at(self.root)
            root = _scratch_folder(self._scratch) if is_scratch else self.root
            opened = Store.open(root)
            opened.can_overlay = partial(_can_overlay, root)
            opened.on_damage = self.damage.append
            self._store = opened.__enter__()
        return self._store
