"""Intel RDT: the container's group in the resctrl file system of the host.

Source: runtime-spec config-linux.md, "IntelRdt"; the kernel's Documentation/arch/x86/resctrl.rst.
No machine at hand has it: the tests put a folder in its place.
"""

import os

from runtime.errors import InvalidSpec
from runtime.launch.tolerate import tolerate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.plan import RdtPlan
    from runtime.spec import IntelRdt

_SWITCHES = ("enableMonitoring", "enableCMT", "enableMBM")


def rdt_plan(wanted: "IntelRdt", mountinfo: str, container_id: str) -> "RdtPlan":
    """Return the group that `linux.intelRdt` asks for. Raises InvalidSpec.

    mountinfo: of the host, which says where resctrl is mounted.
    """
    places = [line.split(" ")[4] for line in mountinfo.splitlines() if " - resctrl " in line]
    if not places:
        raise InvalidSpec(
            "config.json: linux.intelRdt: no resctrl is mounted on this host",
            hint="mount -t resctrl resctrl /sys/fs/resctrl, where the processor has it",
        )
    closid = wanted.get("closID", "") or container_id
    group = places[0] if closid == "/" else os.path.join(places[0], closid)
    lines = [*wanted.get("schemata", [])]
    lines += [wanted.get("l3CacheSchema", ""), wanted.get("memBwSchema", "")]
    schemata = [line for line in lines if line]
    found = os.path.isdir(group)
    if wanted.get("closID") and not schemata and not found:
        text = f"config.json: linux.intelRdt.closID: there is no {group}"
        raise InvalidSpec(text, hint="schemata make one")
    if wanted.get("closID") and schemata and found:
        _compare(group, schemata)
    monitor = ""
    if any(wanted.get(name) for name in _SWITCHES):
        monitor = os.path.join(group, "mon_groups", container_id)
    made = [path for path in (group, monitor) if path and not os.path.isdir(path)]
    return {"group": group, "monitor": monitor, "schemata": schemata, "made": made}


def _compare(group: str, schemata: "list[str]") -> None:
    with open(os.path.join(group, "schemata"), encoding="ascii", errors="replace") as file:
        there = {line.replace(" ", "").strip() for line in file}
    for line in schemata:
        if line.replace(" ", "") not in there:
            text = f"config.json: linux.intelRdt: {group} is there with other schemata than {line}"
            raise InvalidSpec(text)


def join(plan: "RdtPlan", pid: int) -> None:
    """Make the group where it is missing, and put a process into it. Raises OSError."""
    for path in plan["made"]:
        os.mkdir(path, 0o755)
    if plan["group"] in plan["made"]:
        for line in plan["schemata"]:
            _write(os.path.join(plan["group"], "schemata"), f"{line}\n")
    for path in (plan["group"], plan["monitor"]):
        if path:
            _write(os.path.join(path, "tasks"), f"{pid}\n")


def remove(made: "list[str]") -> None:
    """Remove groups that were made for a container that is gone."""
    for path in reversed(made):
        with tolerate(FileNotFoundError):  # with the one around it, or it was never made
            os.rmdir(path)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        os.close(fd)
