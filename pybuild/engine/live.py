"""A container that this process holds: started, asked, looked into, ended.

Its command runs behind a thread of ours; when this process ends, however it does, so does the
container. Owns what is done with it meanwhile. Refuses to know how it was asked for.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Self

from pybuild.engine.filetree import FileTree
from pybuild.engine.held import Held
from pybuild.errors import CommandFailed, ContainerError
from values.classes import dataclass, field, replace

if TYPE_CHECKING:
    from pybuild.engine.containers import Made
    from pybuild.engine.runrequest import RunRequest
    from runtime.cancel import Cancel
    from runtime.execution import Execution
    from runtime.running import ExitStatus
    from store.root import Store

STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that ended. exit_code: 128 + n after signal n."""

    args: tuple[str, ...]
    exit_code: int
    stdout: bytes = field(repr=False)
    stderr: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """What it wrote to standard output, as text; what is no UTF-8 is replaced."""
        return self.stdout.decode(errors="replace")

    def check(self) -> Self:
        """Return this very object. Raises CommandFailed when the exit code is not 0."""
        if self.exit_code:
            output = (self.stderr or self.stdout).decode(errors="replace").strip()
            last = f": {output.splitlines()[-1]}" if output else ""
            raise CommandFailed(f"{' '.join(self.args)}: exit code {self.exit_code}{last}")
        return self


class Output:
    """What a process writes, with a way to wait for more of it."""

    def __init__(self) -> None:
        self._parts: list[tuple[int, bytes]] = []
        self.changed = threading.Condition()

    def take(self, fd: int, data: bytes) -> None:
        """Add bytes written to descriptor 1 or 2."""
        with self.changed:
            self._parts.append((fd, data))
            self.changed.notify_all()

    def of(self, *fds: int) -> bytes:
        """Return what was written to these descriptors so far, in the order in which it came."""
        with self.changed:
            return b"".join(data for fd, data in self._parts if fd in fds)


class Container(Held):
    """A container of an image; a context manager at whose end nothing of it is left.

    id, name: as `pybuild ps` shows them. image_id: what it was made of. args: what it executes.
    """

    def __init__(self, store: Store, request: RunRequest) -> None:
        """Make it; `start` runs its command. Raises ImageMissing, ContainerError."""
        from pybuild.engine.containers import made
        from runtime.cancel import Cancel

        super().__init__()
        self._store = store
        self._made: Made = self._held.enter_context(made(store, replace(request, remove=True)))
        self._cancel: Cancel = self._held.enter_context(Cancel())
        self._held.callback(self._end)
        self._output = Output()
        self._thread: threading.Thread | None = None
        self._pid = self._pidfd = -1
        self._status: ExitStatus | None = None
        self._error: BaseException | None = None
        self._alone = threading.Lock()
        record = self._made.record
        self.id, self.name, self.image_id = record.id, record.name, record.image_id
        self.args = record.args

    def close(self) -> None:
        """Kill it where it runs, and remove it; again is fine."""
        super().close()

    # -- its command

    def start(self) -> Self:
        """Run its command; return when it is being executed.

        Raises RuntimeFailure when it cannot be started, ContainerError when it was before.
        """
        self._require_open()
        if self._thread is not None:
            raise ContainerError(f"container {self.name}: it was started before")
        # A process that is over does not wait for it: the container ends with the process.
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()
        with self._output.changed:
            self._output.changed.wait_for(lambda: self._pid >= 0 or self._has_ended)
        if self._error is not None:
            raise self._error
        return self

    @property
    def is_running(self) -> bool:
        """Whether its command was started and has not ended."""
        return self._thread is not None and not self._has_ended

    @property
    def exit_code(self) -> int | None:
        """Its command's exit code, 128 + n after signal n; None before its end."""
        return None if self._status is None else self._status.code

    @property
    def stdout(self) -> bytes:
        """What its command wrote to standard output so far."""
        return self._output.of(1)

    @property
    def stderr(self) -> bytes:
        """What its command wrote to standard error so far."""
        return self._output.of(2)

    @property
    def logs(self) -> str:
        """What its command wrote so far, to both, in the order in which it came."""
        return self._output.of(1, 2).decode(errors="replace")

    def wait(self, timeout_s: float | None = None) -> int:
        """Return its command's exit code, when it has ended. Raises TimeoutError."""
        self._await(lambda: self._has_ended, timeout_s, "it still runs")
        assert self._status is not None
        return self._status.code

    def wait_for_log(self, text: str, timeout_s: float = 30.0) -> str:
        """Return the first line of its output with `text` in it, when it is there.

        Raises TimeoutError, ContainerError when the command ended without it.
        """
        line = ""

        def is_there() -> bool:
            nonlocal line
            line = next((line for line in self.logs.splitlines() if text in line), "")
            return bool(line) or self._has_ended

        self._await(is_there, timeout_s, f"it did not write {text!r}")
        if not line:
            raise ContainerError(
                f"container {self.name}: it ended with {self.exit_code} without writing {text!r}"
            )
        return line

    def signal(self, number: int) -> None:
        """Signal its command; one that has ended is fine."""
        with contextlib.suppress(ProcessLookupError, OSError):
            if self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, number)

    def stop(self, timeout_s: float = STOP_S) -> int:
        """End its command, by SIGTERM and after `timeout_s` by force; return its exit code."""
        self.signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            return self.wait(timeout_s)
        self.signal(signal.SIGKILL)
        return self.wait()

    # -- other commands, and files

    def exec(
        self,
        *args: str,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        working_dir: str | None = None,
    ) -> Finished:
        """Run another command in it to its end: beside its own, or alone where that does not run.

        Its environment, user and working directory are the container's where none are given.
        Raises RuntimeFailure when it cannot be started.
        """
        from runtime.errors import WrongState
        from runtime.executor import execute, execute_inside

        self._require_open()
        execution, output = self._execution(args, env, user, working_dir), Output()
        status: ExitStatus | None = None
        if self.is_running:
            with contextlib.suppress(WrongState):  # it has just ended
                status = execute_inside(execution, self._pid, on_output=output.take)
        if status is None:
            # One at a time: a writable tree can be mounted only once.
            with self._alone:
                status = execute(execution, on_output=output.take, cancel=self._cancel)
        return Finished(args, status.code, output.of(1), output.of(2))

    def files(self) -> FileTree:
        """Open its root file system, for reading; while it runs as its command sees it."""
        from pybuild.engine.rootfs import read_only
        from runtime.mounting import open_overlay

        self._require_open()
        if self.is_running:
            with contextlib.suppress(OSError):  # it has just ended
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
                return FileTree(os.open(f"/proc/{self._pid}/root", flags))
        with self._store.lease():
            return FileTree(open_overlay(read_only(self._store, self._made.record)))

    def read_bytes(self, path: str) -> bytes:
        """Return what a file of it holds. Raises OSError."""
        with self.files() as tree:
            return tree.read_bytes(path)

    def read_text(self, path: str) -> str:
        """Return the text that a file of it holds. Raises OSError, UnicodeDecodeError."""
        return self.read_bytes(path).decode()

    def _require_open(self) -> None:
        if self._cancel.is_set():
            raise ContainerError(f"container {self.name}: it has been closed")

    def _execution(
        self,
        args: tuple[str, ...],
        env: Mapping[str, str] | None,
        user: str | None,
        working_dir: str | None,
    ) -> Execution:
        own = self._made.execution
        given = env or {}
        kept = [item for item in own.env if item.partition("=")[0] not in given]
        return replace(
            own,
            args=args,
            env=(*kept, *(f"{name}={value}" for name, value in given.items())),
            user=own.user if user is None else user,
            cwd=own.cwd if working_dir is None else working_dir,
        )

    @property
    def _has_ended(self) -> bool:
        return self._status is not None or self._error is not None

    def _run(self) -> None:
        from runtime.executor import execute

        status, failure = None, None
        try:
            with self._alone:
                status = execute(
                    self._made.execution,
                    on_output=self._output.take,
                    cancel=self._cancel,
                    on_started=self._tell,
                )
        except BaseException as error:
            failure = error
        with self._output.changed:
            self._status, self._error = status, failure
            self._output.changed.notify_all()

    def _tell(self, pid: int) -> None:
        """Take the pid of the command: of a process that nobody has waited for yet."""
        with self._output.changed:
            with contextlib.suppress(OSError):
                self._pidfd = os.pidfd_open(pid)
            self._pid = pid
            self._output.changed.notify_all()

    def _await(self, is_so: Callable[[], bool], timeout_s: float | None, otherwise: str) -> None:
        if self._thread is None:
            raise ContainerError(f"container {self.name}: it was not started")
        began = time.monotonic()
        with self._output.changed:
            if not self._output.changed.wait_for(is_so, timeout_s):
                seconds = time.monotonic() - began
                raise TimeoutError(f"container {self.name}: {otherwise} after {seconds:.1f} s")
        if self._error is not None:
            raise self._error

    def _end(self) -> None:
        self._cancel.set()
        if self._thread is not None:
            self._thread.join()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        self._made.exit_code = 137 if self._status is None else self._status.code
