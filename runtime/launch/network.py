"""Keeps one network namespace, and in front of it the helper that is its way out.

A bare interpreter, which leaves its place to its only child at once: that is the first process of a
pid namespace, so that the kernel ends the helper with it, however it ends and whatever the helper
has become meanwhile. It lives in the network's namespace and ends when the caller closes its
orders, or dies. Messages: `guard` with its pid, then `ready` or `failed`; before `ready` the
namespace goes over the orders, as a descriptor.
"""

import errno
import fcntl
import os
import select
import struct

from runtime.launch.channel import receive, receive_descriptors, send, send_descriptor
from runtime.launch.loopback import loopback_up
from runtime.launch.tolerate import tolerate
from runtime.linux import constants as c
from runtime.linux import mount as m
from runtime.linux.capabilities import capset
from runtime.linux.libc import libc
from runtime.linux.namespaces import clone3, unshare
from runtime.linux.process import default_action, pidfd_open, take_stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.plan import NetworkPlan

_AF_INET, _SOCK_DGRAM = 2, 2
_ROUTE_GATEWAY = 2  # RTF_GATEWAY
_LONGEST_TEXT = 2000
# What pasta says where there is no syslog, and slirp4netns whatever happens.
_NOISE = (b"Failed to send ", b"WARNING: Support for ")
_OLDER = b"unrecognized option"


class Failed(Exception):
    """The network cannot be made; one line says why."""


def main(orders: int, report: int) -> None:
    """Entry point of the process."""
    code = 0
    try:
        _main(orders, report)
    except Failed as failure:
        send(report, ("failed", str(failure)))
    except BaseException as error:
        code = 1
        with tolerate(OSError):  # the caller is gone
            send(report, ("failed", f"{type(error).__name__}: {error}"))
    os._exit(code)


def _main(orders: int, report: int) -> None:
    passed = receive_descriptors(orders)
    if passed is None:
        return
    for fd in (orders, report):
        os.set_inheritable(fd, False)  # the helper is not to hold them
    plan: NetworkPlan
    plan, _ = receive(orders)  # type: ignore[misc,assignment]
    take_stdio(passed, (orders, report))
    caller = pidfd_open(plan["caller"])
    # The pid could be another process's by now: only a living parent is the caller.
    if os.getppid() != plan["caller"]:
        return
    pid = _clone(c.CLONE_NEWPID | c.CLONE_NEWNS)
    if pid:
        send(report, ("guard", pid))
        return
    m.mount("", "/", None, c.MS_REC | c.MS_PRIVATE, None)
    _guard(plan, orders, report)
    os.close(report)
    _wait((orders, caller))


def _wait(ends: "tuple[int, ...]") -> None:
    """Return when one of `ends` is readable, or the helper is dead, whoever's child it was."""
    import _signal  # type: ignore[import-not-found]  # `signal` takes 1 MB

    died, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    _signal.signal(c.SIGCHLD, lambda _number, _frame: None)
    _signal.set_wakeup_fd(write)
    poller = select.poll()
    for fd in (*ends, died):
        poller.register(fd, select.POLLIN)
    while _has_child():
        if any(fd in ends for fd, _ in poller.poll()):
            return
        os.read(died, 64)


def _has_child() -> bool:
    with tolerate(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
        return True
    return False


def _clone(flags: int) -> int:
    """Fork into new namespaces; the child is our caller's, who waits for it as for us."""
    try:
        return clone3(flags | c.CLONE_PARENT, 0)[0]
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
    # A seccomp profile around us may know unshare but not clone3. The child is nobody's then.
    unshare(flags)
    return os.fork()


def _guard(plan: "NetworkPlan", orders: int, report: int) -> None:
    """Make the namespace and start the helper; return when the network works. Raises Failed."""
    import _socket  # noqa: F401 - the namespace is sent with it

    if plan["requests"]:
        # The socket of the helper's API is seen by nobody else, and goes with us.
        m.mount("tmpfs", plan["scratch"], "tmpfs", c.MS_NOSUID | c.MS_NODEV, "mode=700")
    said = os.memfd_create("said")
    go_read, go_write = os.pipe()
    ready_read, ready_write = os.pipe()
    helper = os.fork()  # it stays in the network from which the way out leads
    if helper == 0:
        os.close(go_write)
        _become_helper(plan, go_read, ready_write, said)
    os.close(ready_write)
    unshare(c.CLONE_NEWNET)
    loopback_up()
    for name, value in plan["sysctl"]:
        with tolerate(OSError):  # not in this kernel, or read-only here
            _write(f"/proc/sys/{name}", value)
    # Who opens our namespace, which is the helper's first act, may have less rights than we do.
    capset(0, 0, 0)
    os.write(go_write, b"g")
    ready = os.read(ready_read, 1)
    if plan["goes_to_background"] or not ready:
        os.waitpid(helper, 0)
    if not ready:
        raise Failed(_text_of(said))
    for request, port in plan["requests"]:
        _ask(f"{plan['scratch']}/api", request, port)
    namespace = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    send_descriptor(orders, namespace)
    send(report, ("ready", ready[0], _address(), _gateway()))
    for fd in (namespace, said, go_read, go_write, ready_read):
        os.close(fd)


def _become_helper(plan: "NetworkPlan", go: int, ready: int, said: int) -> None:
    """Start the helper; never returns."""
    try:
        default_action(c.SIGPIPE)  # Python ignores it, and pasta takes that for an error
        # The guard's number as /proc has it, whose pid namespace is not the one that we are in.
        guard = _parent_in_proc()
        if os.read(go, 1) != b"g":
            os._exit(1)
        os.dup2(said, 2)
        os.dup2(said, 1)
        namespace = f"/proc/{guard}/ns/net"
        for number, words in enumerate(plan["tries"]):
            argv = [plan["program"], *(namespace if word == "" else word for word in words)]
            if not plan["goes_to_background"]:
                os.dup2(ready, 3)
                os.set_inheritable(3, True)  # dup2 onto itself changes nothing
                os.execve(argv[0], argv, plan["env"])
            os.ftruncate(said, 0)
            os.lseek(said, 0, os.SEEK_SET)
            pid = os.posix_spawn(argv[0], argv, plan["env"])
            if os.waitpid(pid, 0)[1] == 0:
                os.write(ready, bytes([number]))
                os._exit(0)
            if _OLDER not in os.pread(said, _LONGEST_TEXT, 0):
                break
    except OSError as error:
        os.write(said, f"start {plan['program']}: {error.strerror}".encode())
    os._exit(1)


def _parent_in_proc() -> int:
    with open("/proc/self/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])


def _write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def _text_of(said: int) -> str:
    """Return the helper's last words, in one line."""
    data = os.pread(said, _LONGEST_TEXT, max(0, os.fstat(said).st_size - _LONGEST_TEXT))
    data = data.replace(b"WARNING: ", b"\nWARNING: ")  # which may stand in the middle of a line
    lines = [line.strip() for line in data.splitlines() if not line.startswith(_NOISE)]
    return b"; ".join(line for line in lines if line).decode(errors="replace") or "it said nothing"


def _ask(path: str, request: str, port: str) -> None:
    """Have slirp4netns publish one port. Raises Failed. Source: its README, "API"."""
    import _socket

    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    sock.connect(path)
    sock.sendall(request.encode())
    sock.shutdown(_socket.SHUT_WR)
    answer = b""
    while part := sock.recv(4096):
        answer += part
    sock.close()
    if b'"error"' in answer:
        raise Failed(f"publish {port}: {answer.decode(errors='replace').strip()}")


def _address() -> str:
    """Return the first IPv4 address that is no loopback's, "" where there is none."""
    with open("/proc/self/net/dev", encoding="ascii") as file:
        names = [line.partition(":")[0].strip() for line in file if ":" in line]
    fd = libc.socket(_AF_INET, _SOCK_DGRAM | os.O_CLOEXEC, 0)
    try:
        for name in names:
            if name != "lo":
                with tolerate(OSError):  # it has none
                    found = fcntl.ioctl(fd, c.SIOCGIFADDR, struct.pack("16s24x", name.encode()))
                    return ".".join(str(byte) for byte in found[20:24])
    finally:
        os.close(fd)
    return ""


def _gateway() -> str:
    """Return the IPv4 address of the default route, "" where there is none."""
    with open("/proc/self/net/route", encoding="ascii") as file:
        for line in file:
            words = line.split()
            if words[1] == "00000000" and int(words[3], 16) & _ROUTE_GATEWAY:
                return ".".join(str(byte) for byte in int(words[2], 16).to_bytes(4, "little"))
    return ""
