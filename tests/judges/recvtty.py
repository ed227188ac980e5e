"""runc's recvtty: takes a terminal's master from a socket, and copies it to and from stdio."""

import array
import os
import socket
import sys
import termios
import threading

words = iter(sys.argv[1:])
mode, stdin, path = "single", True, ""
for word in words:
    if word in ("--mode", "-m"):
        mode = next(words)
    elif word == "--pid-file":
        with open(next(words), "w") as file:
            file.write(f"{os.getpid()}\n")
    elif word == "--no-stdin":
        stdin = False
    else:
        path = word


def take(connection: socket.socket) -> int:
    """Return the descriptor that comes, -1 for none."""
    ancillary = connection.recvmsg(4096, socket.CMSG_SPACE(4))[1]
    return array.array("i", ancillary[0][2])[0] if ancillary else -1


def copy(source: int, target: int) -> None:
    try:
        while data := os.read(source, 65536):
            if target >= 0:
                os.write(target, data)
    except OSError:
        pass  # the other side is gone


def swallow(connection: socket.socket) -> None:
    copy(take(connection), -1)
    connection.close()


with socket.socket(socket.AF_UNIX) as listening:
    listening.bind(path)
    listening.listen()
    while mode == "null":
        threading.Thread(target=swallow, args=(listening.accept()[0],), daemon=True).start()
    master = take(listening.accept()[0])
attributes = termios.tcgetattr(master)
attributes[1] &= ~termios.ONLCR
termios.tcsetattr(master, termios.TCSANOW, attributes)
if stdin:
    threading.Thread(target=copy, args=(0, master), daemon=True).start()
copy(master, 1)
