#!/usr/bin/env python3
"""Make what an emulated machine boots: Debian's cloud kernel, and a disk with Python and busybox.

The kernel (6.1 in Debian 12) has ext4 and NVMe built in, so it mounts the disk without an
initramfs. The disk holds this interpreter and the packages beside it, at the paths they have here,
so that a program runs there as it runs here; the project itself is not on it.

usage: vm_base.py FOLDER      makes vmlinuz, base.img and apparmor.bin there, unless up to date
"""

import fcntl
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

KERNEL = "linux-image-cloud-amd64"
# Put on the disk where this machine has them. Their configuration is the test's affair.
PROGRAMS: tuple[str, ...] = ("nft", "newuidmap", "newgidmap", "pasta", "slirp4netns")
PROGRAMS += ("fuse-overlayfs", "crun", "runc", "setpriv", "unshare", "mount", "umount", "mke2fs")
PROGRAMS += ("/lib/systemd/systemd", "systemctl", "dbus-daemon", "nsenter")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STDLIB_LEFT_OUT = {"test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip"}
STDLIB_LEFT_OUT |= {"site-packages", "dist-packages"}
PACKAGES_LEFT_OUT = re.compile(
    r"(pip|setuptools|pkg_resources|wheel|mypy|mypyc|ruff|librt|ast_serialize|types_|_distutils|"
    r"[0-9a-f]+__mypyc|__editable__|[^/]*\.pth$)"
)
FOLDERS = ("dev", "proc", "sys", "run", "tmp", "root", "etc", "mnt", "payload", "disk", "var/lib")
BASE_SIZE_MB = 900  # sparse
# What a test confines a container with.
PROFILE = """\
profile pybuild-test flags=(attach_disconnected, mediate_deleted) {
  file,
  capability,
  network,
  signal,
  ptrace,
  unix,
  mount,
  umount,
  pivot_root,
  deny /denied w,
}
profile without-mounts flags=(attach_disconnected, mediate_deleted) {
  file,
  capability,
  network,
  signal,
  ptrace,
  unix,
  umount,
}
"""
FORMAT = 5  # raise it when this script lays the disk out differently

INIT = """\
#!/bin/sh
# Becomes pid 1: mounts what a machine has, runs the payload, and says on the second serial line
# how it ended.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t devtmpfs devtmpfs /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o ptmxmode=666,gid=5 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
chmod 1777 /tmp /dev/shm
mount -t tmpfs tmpfs /payload
ip link set lo up
hostname vm
stty raw -echo -F /dev/ttyS1
tar -x -f /dev/nvme0n2 -C /payload
if [ -e /dev/nvme0n3 ]; then mount /dev/nvme0n3 /disk || echo "mount failed" >/dev/ttyS1; fi
cd /payload
# Through a pipe: programs write otherwise to a terminal.
{ ./run </dev/null; echo "exit $?"; } 2>&1 | cat >/dev/ttyS1
sync
umount /disk 2>/dev/null
poweroff -f
"""


def main(folder: Path) -> None:
    """Make the files in `folder`, once: other processes wait and find them made."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kernel = make_kernel(folder)
        make_policy(folder)
        made_of = "\n".join([str(FORMAT), INIT, kernel, *map(identity, sources())])
        stamp = folder / "made-of"
        if stamp.exists() and stamp.read_text() == made_of and (folder / "base.img").exists():
            return
        make_base(folder, kernel)
        stamp.write_text(made_of)


def identity(path: Path) -> str:
    """Return a line that changes when the file does."""
    found = path.stat()
    return f"{path} {found.st_size} {found.st_mtime_ns}"


def sources() -> list[Path]:
    """Return the files and folders that decide what is on the disk."""
    site = Path(sysconfig.get_paths()["purelib"])
    return [Path(sys.executable).resolve(), *sorted(site.glob("*.dist-info")), *programs()]


def programs() -> list[Path]:
    """Return the paths of busybox and of those PROGRAMS that are here."""
    found = [shutil.which(name, path=PATH) for name in ("busybox", *PROGRAMS)]
    if found[0] is None:
        raise SystemExit("vm_base: no busybox (hint: apt-get install busybox-static)")
    return [Path(path) for path in found if path is not None]


def make_kernel(folder: Path) -> str:
    """Fetch the kernel's package and unpack it as `folder/kernel`; return the package's name."""
    done = folder / "kernel-name"
    if done.exists():
        return done.read_text()
    depends = run("apt-cache", "depends", KERNEL)
    match = re.search(r"Depends: (linux-image-[0-9]\S+)", depends)
    if match is None:
        raise SystemExit(f"vm_base: apt knows no {KERNEL} (hint: apt-get update)")
    with tempfile.TemporaryDirectory(dir=folder) as work:
        package = download(match[1], work)
        unpack(package, folder / "kernel")
        name = package.name
    (vmlinuz,) = (folder / "kernel/boot").glob("vmlinuz-*")
    shutil.copy(vmlinuz, folder / "vmlinuz")
    done.write_text(name)
    return name


def make_policy(folder: Path) -> None:
    """Compile PROFILE as `folder/apparmor.bin`, by the parser of Debian's package."""
    done = folder / "apparmor.bin"
    text = folder / "apparmor.profile"
    if done.exists() and text.read_text() == PROFILE:
        return
    with tempfile.TemporaryDirectory(dir=folder) as work:
        unpack(download("apparmor", work), Path(work, "x"))
        text.write_text(PROFILE)
        features = f"{work}/x/etc/apparmor.d/abi/3.0"
        words = ("--skip-kernel-load", "--skip-cache", "--features-file", features, "--ofile", done)
        run(f"{work}/x/sbin/apparmor_parser", *map(str, words), str(text))


def download(package: str, work: str) -> Path:
    """Fetch a package into the folder `work`; return its path."""
    os.chmod(work, 0o755)
    run("apt-get", "download", "-o", "APT::Sandbox::User=root", package, cwd=work)
    (found,) = Path(work).glob("*.deb")
    return found


def unpack(package: Path, target: Path) -> None:
    """Replace the folder `target` by what is in a package."""
    shutil.rmtree(target, ignore_errors=True)
    run("dpkg-deb", "-x", str(package), str(target))


def run(*command: str, cwd: str | None = None) -> str:
    """Return what a command prints. Raises SystemExit with its last words."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"vm_base: {command[0]}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def make_base(folder: Path, kernel: str) -> None:
    """Lay out the root file system in a temporary folder and make an ext4 image of it."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="root-") as name:
        root = Path(name)
        os.chmod(root, 0o755)
        for below in FOLDERS:
            (root / below).mkdir(parents=True)
        for link in ("bin", "sbin", "lib", "lib64"):
            (root / "usr" / link).mkdir(parents=True)
            (root / link).symlink_to(f"usr/{link}")
        lay_out_programs(root)
        lay_out_python(root)
        lay_out_accounts(root)
        shutil.copytree(folder / "kernel/lib/modules", root / "lib/modules", symlinks=True)
        (version,) = os.listdir(root / "lib/modules")
        run("busybox", "depmod", "-b", str(root), version)
        (root / "sbin/init").unlink(
            missing_ok=True
        )  # a link to busybox, which is not to be written
        (root / "sbin/init").write_text(INIT)
        (root / "sbin/init").chmod(0o755)
        image = folder / "base.img.new"
        image.unlink(missing_ok=True)
        with open(image, "wb") as file:
            file.truncate(BASE_SIZE_MB << 20)
        run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", name, str(image))
        image.rename(folder / "base.img")


def lay_out_programs(root: Path) -> None:
    """Copy the programs with their libraries; busybox answers to every name that is left."""
    found = programs()
    for path in found:
        place(root, path)
    busybox = found[0]
    applets = run(str(busybox), "--list").split()
    # Its own kernel module loader: the kernel calls /sbin/modprobe.
    for applet in sorted(set(applets) - {path.name for path in found[1:]}):
        for target in (root / "usr/bin" / applet, root / "usr/sbin" / applet):
            if not target.exists() and not target.is_symlink():
                target.symlink_to(busybox)


def place(root: Path, path: Path) -> None:
    """Copy a file of this machine to the same path in `root`, and the libraries it needs."""
    target = root / str(path).lstrip("/")
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path.resolve(), target)
    if stat.S_IMODE(path.stat().st_mode) & stat.S_ISUID:
        target.chmod(0o4755)
    for library in libraries(path):
        place(root, library)


def libraries(path: Path) -> Iterator[Path]:
    """Yield the paths of the shared libraries that the loader finds for a program or library."""
    listing = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
    for match in re.finditer(r"(?:=> )?(/\S+) \(0x", listing):
        yield Path(match[1])


def lay_out_python(root: Path) -> None:
    """Copy this interpreter, its library and the packages of its environment."""
    real = Path(sys.executable).resolve()
    place(root, real)
    for name in ("python3", "python"):
        (root / "usr/bin" / name).unlink(missing_ok=True)
        (root / "usr/bin" / name).symlink_to(real)
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    shutil.copytree(
        stdlib,
        root / str(stdlib).lstrip("/"),
        symlinks=True,
        ignore=lambda _, names: {n for n in names if n in STDLIB_LEFT_OUT or n[:7] == "config-"},
        dirs_exist_ok=True,
    )
    site = Path(sysconfig.get_paths()["purelib"])
    shutil.copytree(
        site,
        root / "site",
        symlinks=True,
        ignore=lambda folder, names: {
            n for n in names if Path(folder) == site and PACKAGES_LEFT_OUT.match(n)
        },
    )
    # Found by every interpreter, whatever PYTHONPATH a test gives it.
    packages = root / str(stdlib).lstrip("/") / "site-packages"
    packages.mkdir()
    (packages / "site.pth").write_text("/site\n")
    for folder in (stdlib, site):
        for extension in folder.rglob("*.so"):
            copied = root / ("site" if folder == site else str(stdlib).lstrip("/"))
            if (copied / extension.relative_to(folder)).exists():
                for library in libraries(extension):
                    place(root, library)


def lay_out_accounts(root: Path) -> None:
    """Make root and an ordinary user, `app`, who has subordinate ids."""
    passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n"
    (root / "etc/passwd").write_text(passwd)
    (root / "etc/group").write_text("root:x:0:\napp:x:1000:\n")
    for name in ("subuid", "subgid"):
        (root / "etc" / name).write_text("app:100000:65536\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n127.0.1.1 vm\n")
    (root / "etc/resolv.conf").write_text("nameserver 192.0.2.53\n")  # nobody there
    home = root / "home/app"
    home.mkdir(parents=True)
    os.chown(home, 1000, 1000)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]).absolute())
