"""The program that becomes a container's command, run here; and where it may be used."""

import errno
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from runtime.launch import trampoline
from runtime.launch.channel import receive
from runtime.linux import constants as c

NATIVE = platform.machine()
MACHINES = ("x86_64", "aarch64")
native = pytest.mark.skipif(NATIVE not in MACHINES, reason="there is no code for this machine")
REPORT = 57


@pytest.fixture(params=MACHINES)
def become(request: pytest.FixtureRequest, tool: Callable[[str], str]) -> "Become":
    """Return what runs the program of a machine, another's in an emulator."""
    machine = request.param
    return Become(machine, "" if machine == NATIVE else tool(f"qemu-{machine}-static"))


class Become:
    def __init__(self, machine: str, emulator: str) -> None:
        self.machine, self.emulator = machine, emulator

    def __call__(self, *arguments: str) -> tuple[int, tuple[object, ...] | None, str]:
        """Return the exit status, the report and the output of the program with `arguments`."""
        image = trampoline.make(REPORT, self.machine)
        said, report = os.pipe()
        seen, output = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.dup2(report, REPORT)
            os.dup2(output, 1)
            self._execute(image, arguments)
        os.close(report)
        os.close(output)
        message = receive(said)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        text = os.read(seen, 1 << 16).decode()
        for fd in (image, said, seen):
            os.close(fd)
        return status, message, text

    def _execute(self, image: int, arguments: Sequence[str]) -> NoReturn:
        environment = {"NAME": "value"}
        if not self.emulator:
            os.execve(image, list(arguments), environment)
        os.set_inheritable(image, True)
        first, *rest = arguments
        words = [self.emulator, "-0", first, f"/proc/self/fd/{image}", *rest]
        os.execve(self.emulator, words, environment)


def test_it_becomes_the_command(become: Become) -> None:
    script = 'echo "$0 $1 $# $NAME"; ls /proc/self/fd | grep -c 57; exit 3'
    status, message, text = become("/bin/sh", "", "name", "-c", script, "zero", "one", "", "two")
    assert (status, message) == (3, None)
    assert text == "zero one 3 value\n0\n"


def test_it_tries_the_next_where_one_is_refused(become: Become, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("no program")
    status, message, text = become(str(tmp_path / "plain"), "/bin/echo", "", "echo", "said")
    assert (status, message, text) == (0, None, "said\n")


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        ("", 0o755, errno.ENOEXEC),
        ("#!/no/such/interpreter\n", 0o755, errno.ENOENT),
        ("", 0o644, errno.EACCES),
    ],
)
def test_it_reports_what_kept_it(
    become: Become, tmp_path: Path, content: str, mode: int, said: int
) -> None:
    (tmp_path / "command").write_text(content)
    (tmp_path / "command").chmod(mode)
    assert become(str(tmp_path / "command"), "", "command") == (125, (said,), "")


def test_who_executes_it_by_proc_self_exe_gets_nothing(become: Become) -> None:
    """There is no empty argument then, which would say that we do."""
    assert become("/proc/self/exe", "-c", "x") == (125, None, "")


@native
def test_nothing_can_change_it() -> None:
    image = trampoline.make(REPORT)
    again = os.open(f"/proc/self/fd/{image}", os.O_RDWR)
    with pytest.raises(PermissionError):
        os.pwrite(again, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(again, 0)
    os.close(again)
    os.close(image)


def plan(**changes: object) -> dict:
    usual = {"namespaces": c.CLONE_NEWPID | c.CLONE_NEWNS, "join": [], "hooks": {}, "limits": []}
    return {**usual, "security_label": ("", ""), "keep_fds": 0, **changes}


ALLOWED = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "syscalls": [{"names": list(trampoline.CALLS), "action": "SCMP_ACT_ALLOW"}],
}


@native
@pytest.mark.parametrize("profile", [None, {"defaultAction": "SCMP_ACT_ALLOW"}, ALLOWED])
def test_where_it_suffices(profile: dict | None) -> None:
    joined = [("/proc/1/ns/net", c.CLONE_NEWNET)]
    assert trampoline.suffices(plan(join=joined, limits=[(7, 4, 4)]), profile)


@native
@pytest.mark.parametrize(
    "changes",
    [
        {"namespaces": c.CLONE_NEWNS},  # whoever is in the host's could look
        {"join": [("/proc/1/ns/pid", c.CLONE_NEWPID)]},
        {"join": [("/proc/1/ns/user", c.CLONE_NEWUSER)]},
        {"hooks": {"startContainer": [("/hook", [], [], 0)]}},
        {"security_label": ("profile", "")},
        {"limits": [(7, 3, 1000)]},
        {"limits": [(7, 8, 1000)], "keep_fds": 5},
    ],
)
def test_where_it_does_not(changes: dict) -> None:
    assert not trampoline.suffices(plan(**changes), None)


@native
@pytest.mark.parametrize("call", trampoline.CALLS)
@pytest.mark.parametrize("args", [{}, {"args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}])
def test_a_filter_that_stops_it(call: str, args: dict) -> None:
    rule = {"names": [call], "action": "SCMP_ACT_ERRNO", **args}
    for profile in (
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]},
        {**ALLOWED, "syscalls": [*ALLOWED["syscalls"], rule]},
    ):
        assert not trampoline.suffices(plan(), profile)
    others = [name for name in trampoline.CALLS if name != call]
    left_out = [{"names": others, "action": "SCMP_ACT_ALLOW"}]
    assert not trampoline.suffices(plan(), {**ALLOWED, "syscalls": left_out})
