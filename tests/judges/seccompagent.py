"""runc's seccompagent: answers notifications of seccomp filters.

mkdir is done with `-METADATA` behind the name, chmod fails with ENOMEDIUM, the rest goes on.
"""

import array
import contextlib
import errno
import fcntl
import json
import os
import socket
import struct
import sys
import threading

RECEIVE, SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_*
MKDIR, CHMODS = 83, (90, 91, 268)  # of x86-64
GO_ON = 1

options = {}
words = iter(sys.argv[1:])
for word in words:
    name, equals, value = word.lstrip("-").partition("=")
    options[name] = value if equals else next(words)
with open(options["pid-file"], "w") as file:
    file.write(str(os.getpid()))


def make(pid: int, address: int, mode: int, suffix: str) -> int:
    """Make the directory that the process names, and return the errno."""
    try:
        memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
        data = os.pread(memory, 4096, address)
        os.close(memory)
        name = f"{data[: data.index(0)].decode()}-{suffix}"
        top = "root" if name.startswith("/") else "cwd"
        os.mkdir(f"/proc/{pid}/{top}/{name.lstrip('/')}", mode)
    except OSError:
        return errno.ENOSYS
    return 0


def answer(listener: int, suffix: str) -> None:
    while True:
        request = bytearray(80)
        try:
            fcntl.ioctl(listener, RECEIVE, request)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return
            continue
        number, pid, _, call, _, _, *arguments = struct.unpack("QIIiIQ6Q", request)
        code, flags = 0, GO_ON
        if call == MKDIR:
            code, flags = make(pid, arguments[0], arguments[1], suffix), 0
        elif call in CHMODS:
            code, flags = errno.ENOMEDIUM, 0
        with contextlib.suppress(OSError):  # it was killed
            fcntl.ioctl(listener, SEND, struct.pack("QqiI", number, 0, -code, flags))


with socket.socket(socket.AF_UNIX) as listening:
    listening.bind(options["socketfile"])
    listening.listen()
    while True:
        connection, _ = listening.accept()
        data, ancillary, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(16))
        connection.close()
        if not ancillary:
            continue  # the container came to nothing
        state = json.loads(data)
        listener = array.array("i", ancillary[0][2])[state["fds"].index("seccompFd")]
        suffix = os.path.basename(state.get("metadata", ""))
        threading.Thread(target=answer, args=(listener, suffix), daemon=True).start()
