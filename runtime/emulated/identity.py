"""Who an emulated process is: user and group ids that the kernel does not know about. Pure.

The rules are those of setuid(2), setreuid(2), setresuid(2) and setfsuid(2); an effective user id
of 0 stands for the capabilities CAP_SETUID and CAP_SETGID, unless who had it keeps them.
"""

import errno
import os

UNCHANGED = 0xFFFFFFFF
_FEW = 256

# real, effective, saved, of file systems
Ids = tuple[int, int, int, int]


class Identity:
    """uids, gids: four each. groups: the supplementary ones. Never changed in place.

    keeps: whether it keeps its capabilities when it is root no more (PR_SET_KEEPCAPS).
    """

    __slots__ = ("gids", "groups", "keeps", "uids")

    def __init__(
        self, uids: Ids, gids: Ids, groups: "tuple[int, ...]", keeps: bool = False
    ) -> None:
        self.uids = uids
        self.gids = gids
        self.groups = groups
        self.keeps = keeps

    @property
    def is_root(self) -> bool:
        """Whether it may take any identity, and give files away."""
        return self.uids[1] == 0

    def may_give(self, before: "tuple[int, int]", after: "tuple[int, int]") -> bool:
        """Tell whether it may change a file's owner so. Source: chown(2)."""
        if self.is_root or before == after:
            return self.is_root or before[0] == self.uids[3]
        groups = (*self.groups, self.gids[3])
        return before[0] == after[0] == self.uids[3] and (
            before[1] == after[1] or after[1] in groups
        )


def one(uid: int, gid: int, groups: "tuple[int, ...]") -> Identity:
    """Return the identity of who has been nothing else."""
    return Identity((uid,) * 4, (gid,) * 4, groups)


def set_id(ids: Ids, wanted: int, privileged: bool) -> Ids:
    """setuid, setgid. Raises PermissionError."""
    real, _, saved, _ = ids
    if privileged:
        return (wanted,) * 4
    _allow(wanted in (real, saved))
    return real, wanted, saved, wanted


def set_real_and_effective(ids: Ids, real: int, effective: int, privileged: bool) -> Ids:
    """setreuid, setregid. Raises PermissionError."""
    old_real, old_effective, saved, _ = ids
    _allow(privileged or real in (UNCHANGED, old_real, old_effective))
    _allow(privileged or effective in (UNCHANGED, old_real, old_effective, saved))
    new_real = old_real if real == UNCHANGED else real
    new = old_effective if effective == UNCHANGED else effective
    if real != UNCHANGED or (effective != UNCHANGED and new != old_real):
        saved = new
    return new_real, new, saved, new


def set_three(ids: Ids, wanted: "tuple[int, ...]", privileged: bool) -> Ids:
    """setresuid, setresgid: real, effective, saved. Raises PermissionError."""
    _allow(privileged or all(id_ in (UNCHANGED, *ids[:3]) for id_ in wanted))
    real, effective, saved = (
        old if new == UNCHANGED else new for old, new in zip(ids[:3], wanted, strict=True)
    )
    return real, effective, saved, effective


def set_file_system_id(ids: Ids, wanted: int, privileged: bool) -> Ids:
    """setfsuid, setfsgid: what may not be stays as it is."""
    return (*ids[:3], wanted) if wanted != UNCHANGED and (privileged or wanted in ids) else ids


def _allow(allowed: bool) -> None:
    if not allowed:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


class Processes:
    """The identities of a container's processes: a child's is its parent's.

    default: of the first one, and of all that nobody told otherwise. proc: an open procfs.
    """

    def __init__(self, default: Identity, proc: int) -> None:
        self._default = default
        self._proc = proc
        self._known: dict[int, tuple[int, Identity]] = {}
        self._most = _FEW

    def of(self, thread: int) -> Identity:
        """Return the identity of a thread's process."""
        if not self._known:
            return self._default
        process = self._process_of(thread)
        found, lineage, pid = self._default, [], process
        while pid > 0:
            parent, started = self._parent_of(pid)
            known = self._known.get(pid)
            if known is not None and known[0] == started:
                found = known[1]
                break
            lineage.append((pid, started))
            pid = parent
        if lineage:  # kept for when its parent is gone, and it is another's child
            self._note(process, lineage[0][1], found)
        return found

    def become(self, thread: int, identity: Identity) -> None:
        """Note that a thread's process has another identity from now on."""
        process = self._process_of(thread)
        self._note(process, self._parent_of(process)[1], identity)

    def _note(self, process: int, started: int, identity: Identity) -> None:
        if len(self._known) >= self._most:
            self._forget_the_dead()
            self._most = 2 * len(self._known) + _FEW
        self._known[process] = (started, identity)

    def _forget_the_dead(self) -> None:
        gone = [
            pid for pid, (started, _) in self._known.items() if self._parent_of(pid)[1] != started
        ]
        for pid in gone:
            del self._known[pid]

    def _process_of(self, thread: int) -> int:
        for line in self._read(f"{thread}/status").split(b"\n", 5):
            if line.startswith(b"Tgid:"):
                return int(line[5:])
        return thread

    def _parent_of(self, pid: int) -> "tuple[int, int]":
        """Return the parent's pid and the start time; (0, -1) of a process that is no more."""
        fields = self._read(f"{pid}/stat").rpartition(b")")[2].split()
        return (int(fields[1]), int(fields[19])) if fields else (0, -1)

    def _read(self, path: str) -> bytes:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)
        except OSError:
            return b""
        try:
            return os.read(fd, 4096)
        except OSError:
            return b""
        finally:
            os.close(fd)
