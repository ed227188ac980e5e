"""Containers with a terminal, and ours while one is in the foreground."""

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import textwrap
import time

import pytest

from runtime import terminal
from runtime.executor import Cancel

pytestmark = pytest.mark.kernel


def test_the_command_has_a_controlling_terminal(run):
    ran = run("tty; echo via tty > /dev/tty; ls -l /dev/console /dev/pts", tty=True)
    lines = ran.out.split("\r\n")
    assert lines[:2] == ["/dev/pts/0", "via tty"]
    assert any(line.startswith("crw") and line.endswith("/dev/console") for line in lines)


def test_size_and_term(run):
    assert run("stty size; echo $TERM", tty=True, window=(17, 71)).out == "17 71\r\nxterm\r\n"


def test_the_terminal_belongs_to_the_user(run):
    ran = run("busybox stat -L -c %u /proc/self/fd/0; echo x > /dev/tty", tty=True, user="app")
    assert ran.out == "1000\r\nx\r\n"


def test_exit_code_and_input(run):
    read_end, write_end = os.pipe()
    os.write(write_end, b"hello\nexit 5\n")
    os.close(write_end)
    ran = run("read line; echo got $line; read line; $line", tty=True, stdin=read_end)
    os.close(read_end)
    assert "got hello" in ran.out
    assert ran.code == 5


def test_end_of_input_is_control_d(run):
    with open(os.devnull) as empty:
        assert run("cat; echo over", tty=True, stdin=empty.fileno()).out.endswith("over\r\n")


def test_much_output_through_a_terminal(run):
    ran = run("busybox seq 1 20000", tty=True)
    assert ran.out == "".join(f"{n}\r\n" for n in range(1, 20001))


def test_cancel(run):
    with Cancel() as cancel:
        cancel.set()
        ran = run("sleep 60", tty=True, cancel=cancel)
    assert ran.code == 137


FOREGROUND = """
import sys
from runtime.executor import Execution, execute_in_foreground
from store.mount import OverlayMount
base, script, tty = sys.argv[1:]
mount = OverlayMount(base, ("busybox",), "upper", "work", "stubs")
execution = Execution(
    mount, ("sh", "-c", script), env=("PATH=/bin",), stdin=0, tty=tty == "tty"
)
status = execute_in_foreground(execution)
print("status", status.code, flush=True)
"""


class Foreground:
    """A foreground run on a terminal of its own."""

    def __init__(self, snapshot, project, script, tty):
        self.master, slave = pty.openpty()
        terminal.set_size(slave, 33, 99)
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        args = [str(snapshot.base), script, "tty" if tty else "plain"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(FOREGROUND), *args],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=project,
            start_new_session=True,
            preexec_fn=lambda: __import__("fcntl").ioctl(0, termios.TIOCSCTTY, 0),
        )
        self.seen = b""

    def until(self, text: bytes) -> None:
        deadline = time.monotonic() + 20
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            if select.select([self.master], [], [], 0.1)[0]:
                self.seen += os.read(self.master, 4096)

    def type(self, data: bytes) -> None:
        os.write(self.master, data)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def foreground(snapshot, project):
    def start(script, tty=True):
        return Foreground(snapshot, project, script, tty)

    return start


def test_foreground_terminal_is_raw_and_restored(foreground):
    with foreground("stty size; echo ready; read x; echo [$x]") as run:
        run.until(b"ready")
        assert b"33 99" in run.seen
        assert not termios.tcgetattr(run.slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)
        assert run.seen == b"33 99\r\nready\r\n"
        run.type(b"typed\r")
        run.until(b"[typed]\r\n")
        run.until(b"status 0")
        run.process.wait()
        assert termios.tcgetattr(run.slave) == run.before


def test_foreground_control_c_reaches_the_container(foreground):
    with foreground("trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 1; done") as run:
        run.until(b"ready")
        run.type(b"\x03")
        run.until(b"caught")
        run.until(b"status 9")


def test_foreground_follows_the_size(foreground):
    script = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.1; done"
    with foreground(script) as run:
        run.until(b"ready")
        terminal.set_size(run.master, 40, 120)
        run.process.send_signal(signal.SIGWINCH)
        run.until(b"40 120")


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "QUIT", "USR1", "USR2"])
def test_foreground_passes_signals_on(foreground, name):
    script = f"trap 'echo caught; exit 4' {name}; echo ready; while :; do sleep 0.1; done"
    with foreground(script, tty=False) as run:
        run.until(b"ready")
        run.process.send_signal(getattr(signal, f"SIG{name}"))
        run.until(b"caught")
        run.until(b"status 4")


def test_foreground_third_interrupt_kills(foreground):
    with foreground("trap '' INT; echo ready; while :; do sleep 1; done", tty=False) as run:
        run.until(b"ready")
        for _ in range(3):
            run.process.send_signal(signal.SIGINT)
            time.sleep(0.05)  # two equal signals that wait are one
        run.until(b"status 137")
