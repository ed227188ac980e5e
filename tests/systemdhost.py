"""A systemd of one's own: pid 1 of namespaces, with a bus, in cgroups below this host's.

It boots in a fraction of a second, because it knows no units but a bus. Where the host mounts
cgroup v1, so does it; where there is v2 alone, it has v2 alone. Nothing of the host changes.
"""

import os
import pwd
import select
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.launch.cgroupfiles import hierarchies

PROJECT = Path(__file__).parents[1]
SYSTEMD = "/lib/systemd/systemd"
TOOLS = ("systemctl", "dbus-daemon", "nsenter", "unshare")  # not those of a shell
# Where systemd keeps what it was told over the bus, and finds it again when it is reloaded.
OF_THE_BUS = "/run/systemd/system.control:/run/systemd/transient"
BOOT_S = 60.0  # emulated it takes its time
UNITS = {
    "started.target": "[Unit]\nRequires=dbus.service\nAfter=dbus.service\nDefaultDependencies=no\n",
    "dbus.socket": """\
[Unit]
DefaultDependencies=no
[Socket]
ListenStream=/run/dbus/system_bus_socket
""",
    "dbus.service": """\
[Unit]
DefaultDependencies=no
Requires=dbus.socket
[Service]
Type=notify
ExecStart={dbus} --config-file={folder}/bus.conf --address=systemd: --nofork --nopidfile
""",
    "user.service": """\
[Unit]
DefaultDependencies=no
[Service]
Type=notify
User={user}
Delegate=yes
KillSignal=SIGKILL
RuntimeDirectory=user
Environment=XDG_RUNTIME_DIR=%t/user SYSTEMD_UNIT_PATH=%t/user/systemd/transient:{folder}/user
ExecStart={systemd} --user --unit=started.target --log-target=console --log-level=warning
""",
}
# Of the user's own systemd: a bus, and a place in his cgroup for what the test runs.
USER_UNITS = {
    **{name: UNITS[name] for name in ("started.target", "dbus.service")},
    "dbus.socket": "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=%t/bus\n",
    "job.service": """\
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/sh {folder}/job
StandardOutput=file:%t/said
StandardError=file:%t/said
""",
}
BUS = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_type="method_call"/>
    <allow send_destination="*"/><allow receive_sender="*"/><allow eavesdrop="true"/>
  </policy>
</busconfig>
"""
# Its cgroup namespace begins at $1 of every tree, where nobody else may be: v2 hands no controllers
# down from a cgroup with processes. Sysctls are the host's: systemd sets some when it boots.
BOOT = """\
for tree in {trees}; do echo 0 > "$tree/$1/cgroup.procs"; done
exec {unshare} --cgroup --mount sh -ec '
for tree in {trees}; do echo 0 > "$tree/cgroup.procs"; done
exec {unshare} --mount --pid --uts --ipc --net --fork --mount-proc --kill-child sh -ec "$2" sh "$1"
' sh "$1" '
for tree in {trees}; do echo 0 > "$tree/$1/cgroup.procs"; done
mount --make-rprivate /
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -t tmpfs tmpfs /run
mkdir /run/lock
{mounts}
{shown}
exec {systemd} --unit=started.target --show-status=0 --log-target=console --log-level=warning
'
"""


@dataclass(frozen=True)
class SystemdHost:
    """A systemd that runs.

    prefix: before a command, runs it where that systemd is the host's. folder: what everybody may
    read, for files of a test.
    """

    prefix: tuple[str, ...]
    has_v1: bool
    folder: Path

    def __call__(self, *words: str | os.PathLike[str], check: bool = True) -> str:
        """Run a command there and return its output."""
        done = subprocess.run(
            [*self.prefix, *map(os.fspath, words)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{words}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Return properties of a unit; of several values of one name the sum, in their order."""
        found: dict[str, str] = {}
        for line in self("systemctl", "show", unit, "-p", ",".join(names)).splitlines():
            name, _, value = line.partition("=")
            found[name] = f"{found[name]}, {value}" if name in found else value
        return found

    def as_user(self, script: str) -> str:
        """Run a shell script below an ordinary user's own systemd, and return what it says."""
        (self.folder / "job").write_text(script)
        user = ("env", "XDG_RUNTIME_DIR=/run/user", "systemctl", "--user")
        self("systemctl", "start", "user.service")
        self("setpriv", f"--reuid={ordinary_user()}", *user, "start", "job.service", check=False)
        said = self("cat", "/run/user/said")
        self("systemctl", "stop", "user.service")
        return said

    def units(self, pattern: str) -> str:
        """Return the lines of the units that systemd knows by now."""
        return self("systemctl", "list-units", "--all", "--no-legend", "--plain", pattern)


class Booted:
    """Boots a systemd on entry, and takes it away on exit."""

    def __init__(self, folder: Path, tools: Sequence[str]) -> None:
        """folder: a short path of its own. tools: paths of TOOLS, in that order."""
        self._folder = folder
        _, self._dbus, self._nsenter, self._unshare, *_ = tools
        self._trees = hierarchies(Path("/proc/self/mountinfo").read_text())
        self._name = f"pybuild-systemd-{os.getpid()}"

    def __enter__(self) -> SystemdHost:
        units = self._folder / "units"
        self._folder.chmod(0o755)
        known = {"dbus": self._dbus, "folder": self._folder, "systemd": SYSTEMD}
        for folder, texts in (("units", UNITS), ("user", USER_UNITS)):
            (self._folder / folder).mkdir()
            for name, text in texts.items():
                text = text.format(user=ordinary_user(), **known)
                (self._folder / folder / name).write_text(text)
        (self._folder / "bus.conf").write_text(BUS)
        self._make_cgroups()
        v1 = {name: tree for name, tree in self._trees.items() if name != "unified"}
        if v1:
            lines = ["mount -t tmpfs tmpfs /sys/fs/cgroup"]
            for name in v1:
                short = name.removeprefix("name=")
                options = f"none,{name},xattr" if short != name else name
                lines.append(f"mkdir /sys/fs/cgroup/{short}")
                lines.append(f"mount -t cgroup -o {options} cgroup /sys/fs/cgroup/{short}")
        else:
            lines = ["umount /sys/fs/cgroup", "mount -t cgroup2 cgroup2 /sys/fs/cgroup"]
        script = BOOT.format(
            trees=" ".join(sorted(set(self._trees.values()))),
            mounts="\n".join(lines),
            shown="\n".join(showing(Path(sys.base_prefix), PROJECT)),
            systemd=SYSTEMD,
            unshare=self._unshare,
        )
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(str(self._folder / "ready"))
            self._log = open(self._folder / "log", "wb")
            self._process = subprocess.Popen(
                ["sh", "-e", "-c", script, "sh", self._name],
                env={
                    "PATH": os.environ["PATH"],
                    "container": "pybuild-tests",
                    "NOTIFY_SOCKET": str(self._folder / "ready"),
                    "SYSTEMD_UNIT_PATH": f"{OF_THE_BUS}:{units}",
                },
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
            )
            if not self._is_ready(ready):
                self.__exit__()
                log = (self._folder / "log").read_text(errors="replace")
                raise AssertionError(f"systemd did not start:\n{log}")
        children = f"/proc/{self._process.pid}/task/{self._process.pid}/children"
        (child,) = Path(children).read_text().split()
        enter = (self._nsenter, "-t", child, "-m", "-p", "-C", "-u", "-i", "-n", "--")
        host = SystemdHost(enter, bool(v1), self._folder)
        host("umount", "/proc/sys")  # a user may mount a /proc of his own where he sees a whole one
        return host

    def _is_ready(self, ready: socket.socket) -> bool:
        """Wait until systemd has said that it is ready, or is dead, or the time is over."""
        pidfd = os.pidfd_open(self._process.pid)
        try:
            while ready in select.select([ready, pidfd], [], [], BOOT_S)[0]:
                if b"READY=1" in ready.recv(4096).split(b"\n"):
                    return True
            return False
        finally:
            os.close(pidfd)

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()
        for tree in set(self._trees.values()):
            self._remove(Path(tree, self._name))

    def _make_cgroups(self) -> None:
        for controller, tree in self._trees.items():
            folder = Path(tree, self._name)
            folder.mkdir(exist_ok=True)
            if controller == "cpuset":
                for name in ("cpuset.cpus", "cpuset.mems"):
                    (folder / name).write_text(Path(tree, name).read_text())
            if controller == "unified":
                controllers = Path(tree, "cgroup.controllers").read_text().split()
                wanted = " ".join(f"+{name}" for name in controllers)
                Path(tree, "cgroup.subtree_control").write_text(wanted)

    def _remove(self, top: Path) -> None:
        folders = [Path(path) for path, _, _ in os.walk(top, topdown=False)]
        deadline = time.monotonic() + BOOT_S
        for folder in folders:
            while True:
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    break
                except OSError:  # the last processes are still dying
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.005)
                else:
                    break


def ordinary_user() -> str:
    """Return the name of an account that is not root's."""
    return max((p for p in pwd.getpwall() if 0 < p.pw_uid < 60000), key=lambda p: p.pw_uid).pw_name


def showing(*folders: Path) -> list[str]:
    """Return shell commands that let everybody reach what lies behind folders of root's alone."""
    walls: dict[Path, list[Path]] = {}
    for folder in folders:
        above = [path for path in reversed(folder.parents) if not path.stat().st_mode & 0o001]
        if above:
            walls.setdefault(above[0], []).append(folder)
    lines = []
    for wall, behind in walls.items():
        for number, folder in enumerate(behind):
            lines.append(
                f"mkdir -p /run/behind/{number}; mount --bind {folder} /run/behind/{number}"
            )
        lines.append(f"mount -t tmpfs -o mode=755 tmpfs {wall}")
        for number, folder in enumerate(behind):
            lines.append(f"mkdir -p {folder}; mount --move /run/behind/{number} {folder}")
    return lines
