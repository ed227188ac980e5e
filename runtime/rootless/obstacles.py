"""Why there is no (better) user namespace, and what would allow one."""

import errno

from runtime.rootless.mode import Reason

_HOST_WIDE = (
    ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces", "=15000"),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone", "=1"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "kernel.apparmor_restrict_unprivileged_userns",
        "=0, or an AppArmor profile for pybuild that allows userns",
    ),
)


def no_ranges(paths: "list[str]", user: str) -> Reason:
    """Return the reason of a user whom `paths` give no subordinate ids."""
    options = " ".join(f"--add-{path.rpartition('/')[2]}s 100000-165535" for path in paths)
    return Reason(
        f"no line for {user} in {' and '.join(paths)}", f"as root: usermod {options} {user}"
    )


def no_program() -> Reason:
    """Return the reason of a host without the programs that map subordinate ids."""
    return Reason("newuidmap and newgidmap are not installed", "Debian's package is uidmap")


def why_no_namespace(error: OSError) -> Reason:
    """Return why making a user namespace failed with `error`."""
    if error.errno == errno.EINVAL:
        return Reason("this process has several threads", "enter before starting any")
    for path, value, name, remedy in _HOST_WIDE:
        if _first_word(path) == value:
            return Reason(f"{name} is {value}", f"as root: sysctl {name}{remedy}")
    if error.errno == errno.ENOSPC:
        return Reason("there are too many user namespaces", "user.max_user_namespaces is the limit")
    if error.errno in (errno.EPERM, errno.EACCES) and is_filtered():
        return Reason(
            "a seccomp filter forbids user namespaces",
            "in docker: --security-opt seccomp=unconfined, or --privileged",
        )
    return Reason(f"no user namespace can be made: {(error.strerror or '').lower()}")


def is_filtered() -> bool:
    """Tell whether a seccomp filter is upon us."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
        return any(line.split() == ["Seccomp:", "2"] for line in lines)


def _first_word(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
