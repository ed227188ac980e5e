"""One bundle under pybuild-runtime, crun and runc: a probe inside must see the same."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runtime.bundle import BindMount, RunOptions, make_spec
from runtime.spec import to_json
from store.oci import ContainerConfig

pytestmark = pytest.mark.kernel

PROBE = r"""
id; pwd; hostname; umask; busybox env | busybox sort | busybox grep -v -e SHLVL -e container=
busybox grep -e ^Cap -e NoNewPrivs -e Seccomp: -e ^Sig[BI] /proc/self/status \
  | busybox sed -E '/^SigIgn/s/[0-9a-f]{9}([0-9a-f]{7})$/\1/'  # GNU make ignores 32 and 33
busybox ulimit -n 2>/dev/null; ulimit -c
for n in cgroup ipc mnt net pid uts; do
  test "$(busybox readlink /proc/self/ns/$n)" = "$(echo $OUTSIDE | busybox grep -o $n:.[0-9]*.)" \
    && echo $n shared
done
cd /dev; for d in full null random tty urandom zero ptmx fd stdin stdout stderr shm mqueue pts; do
  busybox stat -c '%n %F %t:%T %a' $d
done
busybox awk '$2 !~ "^/(proc/|sys/)" && $2 != "/" {
  print $2, $3, ($4 ~ /^ro/), ($4 ~ /nosuid/), ($4 ~ /nodev/), ($4 ~ /noexec/)
}' /proc/mounts | busybox sort
for p in /proc/kcore /proc/keys /proc/timer_list /sys/firmware; do
  busybox test -d $p && ls -A $p || busybox wc -c < $p
done
for p in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /sys/x /ro/x; do
  (: > $p) 2>/dev/null && echo $p is writable
done
mknod /tmp/null c 1 3 && (: > /tmp/null) && echo null works
mknod /tmp/mem c 1 1; (: < /tmp/mem) 2>/dev/null || echo mem refused
"""


@pytest.fixture
def bundle(snapshot, tmp_path):
    """Return a function: bundle(config, options) writes a bundle with its own copy of the root."""

    def make(config, options):
        folder = tmp_path / "bundle"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(snapshot.layer, folder / "rootfs", symlinks=True)
        root = os.open(folder / "rootfs", os.O_RDONLY)
        (folder / "config.json").write_bytes(to_json(make_spec(config, options, root)))
        os.close(root)
        return folder

    return make


OURS = (
    "import sys; sys.path.insert(0, sys.argv.pop(1));"
    "from runtime.command.main import process; process()"
)
PROJECT = Path(__file__).parents[3]


def by_us(folder):
    words = [sys.executable, "-c", OURS, PROJECT, "--root", folder.parent / "state", "run", "us"]
    return ran(words, folder)


def ran(words, folder):
    done = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    return done.returncode, done.stdout + done.stderr


def by_peer(command):
    def run(folder):
        # crun refuses hybrid hosts unless it does not see the v2 tree.
        script = f"umount /sys/fs/cgroup/unified 2>/dev/null; exec {command}"
        name = f"peer-{os.getpid()}-{time.monotonic_ns()}"
        words = ["unshare", "-m", "--propagation", "private", "sh", "-c", f"{script} run {name}"]
        return ran(words, folder)

    return run


@pytest.fixture(params=["crun", "runc"])
def peer(request, tool):
    return by_peer(shlex.quote(tool(request.param)))


OPTIONS = {
    "default": RunOptions(hostname="box", network="none"),
    "host-network": RunOptions(hostname="box"),
    "user": RunOptions(user="app", workdir="/home/app", hostname="box", network="none"),
    "groups": RunOptions(user="1000:29", hostname="box", network="none"),
    "read-only": RunOptions(read_only=True, hostname="box", network="none"),
    "locked": RunOptions(no_new_privileges=True, hostname="box", network="none"),
    "no-seccomp": RunOptions(seccomp=False, hostname="box", network="none"),
    "limits": RunOptions(
        hostname="box",
        network="none",
        limits=({"type": "RLIMIT_NOFILE", "soft": 512, "hard": 1024},),
    ),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_the_same_is_seen(bundle, peer, name, tmp_path):
    outside = " ".join(os.readlink(f"/proc/self/ns/{n}") for n in os.listdir("/proc/self/ns"))
    config = ContainerConfig(
        env=("PATH=/bin", f"OUTSIDE={outside}"), cmd=("sh", "-c", PROBE), working_dir="/etc"
    )
    options = OPTIONS[name]
    shown = tmp_path / "shown"
    shown.mkdir()
    options = RunOptions(
        **{field: getattr(options, field) for field in options.__slots__}
        | {"mounts": (BindMount(str(shown), "/ro", read_only=True),)}
    )
    theirs = peer(bundle(config, options))
    ours = by_us(bundle(config, options))
    assert sorted(ours[1].splitlines()) == sorted(theirs[1].splitlines())
    assert ours[0] == theirs[0]


@pytest.mark.parametrize(
    "args", [("sh", "-c", "exit 9"), ("sh", "-c", "sh -c 'kill -9 $$'; exit $?"), ("true",)]
)
def test_the_same_exit_code(bundle, peer, args):
    config = ContainerConfig(env=("PATH=/bin",))
    options = RunOptions(args=args, network="none")
    assert peer(bundle(config, options))[0] == by_us(bundle(config, options))[0]
