"""Hands the listener of a seccomp filter to who answers its notifications.

Source: runtime-spec config-linux.md, "The Container Process State".
"""

import os

from runtime import jsontext
from runtime.linux.process import pidfd_getfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def pass_listener(
    agent: int, number: int, process: "tuple[int, int]", metadata: str, state: "dict[str, Any]"
) -> None:
    """Send descriptor `number` of `process` (pid, pidfd) over the socket `agent`, and close that.

    state: of the container, as the runtime-spec has it.
    """
    import _socket
    import struct

    pid, pidfd = process
    listener = pidfd_getfd(pidfd, number)
    value = {
        "ociVersion": state["ociVersion"],
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": metadata,
        "state": state,
    }
    sock = _socket.socket(fileno=agent)
    rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", listener))
    sock.sendmsg([jsontext.dumps(value)], [rights])
    sock.close()
    os.close(listener)
