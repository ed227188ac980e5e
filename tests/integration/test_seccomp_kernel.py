"""The kernel takes our programs, and answers system calls as the profile says."""

import ctypes
import errno
import json
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from runtime.linux.process import prctl, set_seccomp_filter
from runtime.linux.seccomp import filter_for
from runtime.linux.syscalls import X32_BIT, numbers

pytestmark = pytest.mark.kernel

MACHINE = os.uname().machine
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWUSER = 0x10000000
AF_VSOCK = 40
ADDR_NO_RANDOMIZE = 0x0040000
# Arguments that are wrong in a way the kernel itself would call EINVAL or EFAULT, so that EPERM
# and ENOSYS can only come from the filter.
BAD = (1 << 64) - 1
CAPABILITIES = ["CAP_CHOWN", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_SETUID", "CAP_SETGID"]


@pytest.fixture(scope="module")
def profile(project: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((project / "runtime/seccomp.json").read_bytes())
    return loaded


def under(program: bytes, probe: Callable[[], Mapping[str, int]]) -> dict[str, int]:
    """Return what `probe` returns in a child that `program` filters."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            prctl(PR_SET_NO_NEW_PRIVS, 1)
            set_seccomp_filter(program)
            os.write(writer, json.dumps(probe()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"ended by signal {os.WTERMSIG(status)}"
    result: dict[str, int] = json.loads(answer)
    return result


def call(number: int, *args: int) -> int:
    """Do the system call; return 0 if it went well, else its errno."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_ulong(arg) for arg in args))
    return ctypes.get_errno() if result < 0 else 0


def probe_native() -> dict[str, int]:
    table = numbers(MACHINE)
    return {
        "getpid": call(table["getpid"]),
        "socket unix": call(table["socket"], 1, 1, 0),
        "socket vsock": call(table["socket"], AF_VSOCK, 1, 0),
        "socket vsock with high bits": call(table["socket"], 1 << 32 | AF_VSOCK, 1, 0),
        "unshare user": call(table["unshare"], CLONE_NEWUSER),
        "clone user": call(table["clone"], CLONE_NEWUSER | signal.SIGCHLD, 0, 0, 0, 0),
        "clone3": call(table["clone3"], 0, 0),
        "mount": call(table["mount"], BAD, BAD, BAD, 0, 0),
        "open_tree": call(table["open_tree"], BAD, BAD, 0),
        "bpf": call(table["bpf"], BAD, BAD, 0),
        "io_uring_setup": call(table["io_uring_setup"], 1, BAD),
        "add_key": call(table["add_key"], BAD, BAD, 0, 0, 0),
        "kexec_load": call(table["kexec_load"], 0, 0, 0, BAD),
        "chroot": call(table["chroot"], BAD),
        "personality query": call(table["personality"], 0xFFFFFFFF),
        "personality no randomize": call(table["personality"], ADDR_NO_RANDOMIZE),
        "ptrace": call(table["ptrace"], 0, 0, 0, 0),  # PTRACE_TRACEME
        "listns": call(table["listns"], BAD, BAD, 0, 0),
        "9999": call(9999),
    }


def test_the_default_profile_answers(profile: dict[str, Any]) -> None:
    assert under(filter_for(profile, CAPABILITIES), probe_native) == {
        "getpid": 0,
        "socket unix": 0,
        "socket vsock": errno.EPERM,
        # The kernel sees an int: with high bits it would be AF_VSOCK all the same.
        "socket vsock with high bits": errno.EPERM,
        "unshare user": errno.EPERM,
        "clone user": errno.EPERM,
        "clone3": errno.ENOSYS,
        "mount": errno.EPERM,
        "open_tree": errno.EPERM,
        "bpf": errno.EPERM,
        "io_uring_setup": errno.EPERM,
        "add_key": errno.EPERM,
        "kexec_load": errno.EPERM,
        "chroot": errno.EFAULT,
        "personality query": 0,
        "personality no randomize": errno.EPERM,
        "ptrace": 0,
        "listns": errno.ENOSYS,
        "9999": errno.ENOSYS,
    }


def probe_x32() -> dict[str, int]:
    return {"getpid": call(X32_BIT | 39), "9999": call(X32_BIT | 9999), "-2": call(0xFFFFFFFE)}


@pytest.mark.skipif(MACHINE != "x86_64", reason="x32 is an ABI of x86_64")
def test_x32_is_refused(profile: dict[str, Any]) -> None:
    given = under(filter_for(profile, CAPABILITIES), probe_x32)
    assert given == dict.fromkeys(given, errno.ENOSYS)


# push rbx; mov eax, edi; mov ebx, esi; int 0x80; cdqe; pop rbx; ret
INT_80 = bytes.fromhex("53 89 f8 89 f3 cd 80 48 98 5b c3")


def probe_x86() -> dict[str, int]:
    """Call as a 32-bit program does. The page stays mapped: the child ends soon."""
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(INT_80)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    int_80 = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, ctypes.c_long)(address)
    table = numbers("x86")
    calls = {"getpid": 0, "mount": 0, "unshare": CLONE_NEWUSER, "clone3": 0}
    answers = {name: -min(int_80(table[name], word), 0) for name, word in calls.items()}
    return {**answers, "9999": -int_80(9999, 0)}


@pytest.mark.skipif(MACHINE != "x86_64", reason="the 32-bit ABI beside x86_64")
def test_the_32_bit_abi_has_its_own_numbers(profile: dict[str, Any]) -> None:
    assert under(filter_for(profile, CAPABILITIES), probe_x86) == {
        "getpid": 0,
        "mount": errno.EPERM,
        "unshare": errno.EPERM,
        "clone3": errno.ENOSYS,
        "9999": errno.ENOSYS,
    }


def test_capabilities_open_their_calls(profile: dict[str, Any]) -> None:
    given = under(filter_for(profile, ["CAP_SYS_ADMIN"]), probe_native)
    assert given["mount"] == given["open_tree"] == errno.EFAULT
    assert given["clone3"] == errno.EINVAL
    assert given["chroot"] == errno.EPERM


def probe_nothing() -> dict[str, int]:
    return {}


def test_another_architecture_ends_the_process(profile: dict[str, Any]) -> None:
    """The next call after the load is one of an architecture that the program does not know."""
    foreign = "aarch64" if MACHINE == "x86_64" else "x86_64"
    with pytest.raises(AssertionError, match=f"signal {signal.SIGSYS}\\b"):
        under(filter_for(profile, CAPABILITIES, foreign), probe_nothing)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "armv7l", "i686"])
def test_the_kernel_takes_the_program_of_every_machine(
    machine: str, profile: dict[str, Any]
) -> None:
    """Under a default that allows all: only its check at load counts here."""
    allow = {**profile, "defaultAction": "SCMP_ACT_LOG", "architectures": SCMP_ARCHES}
    assert under(filter_for(allow, CAPABILITIES, machine), probe_nothing) == {}


SCMP_ARCHES = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"]

WORKLOAD = """
import multiprocessing, os, socket, sqlite3, subprocess, tempfile, threading
threads = [threading.Thread(target=os.getpid) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert subprocess.check_output(["/bin/sh", "-c", "ls / | wc -l; exit 0"])
with tempfile.TemporaryDirectory() as folder:
    connection = sqlite3.connect(folder + "/x.db")
    connection.execute("create table t (a)")
    connection.commit()
    connection.close()
    os.symlink("x", folder + "/y")
    os.chmod(folder, 0o755)
a, b = socket.socketpair()
a.sendall(b"x")
assert b.recv(1) == b"x"
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
"""


def test_ordinary_programs_run(profile: dict[str, Any], tmp_path: Path) -> None:
    """Threads (clone3 refused, clone used), children, files and sockets under the real filter."""
    program = filter_for(profile, CAPABILITIES)

    def load() -> None:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        set_seccomp_filter(program)

    ended = subprocess.run(
        [sys.executable, "-I", "-c", WORKLOAD],
        preexec_fn=load,  # this process has no other thread
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
