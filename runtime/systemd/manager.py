"""What is asked of systemd's manager: to make a scope, to change its limits, to take it away."""

from runtime.errors import InvalidSpec, RuntimeFailure
from runtime.systemd.bus import Bus, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.systemd.variants import Property

_EXISTS = "org.freedesktop.systemd1.UnitExists"
_GONE = "org.freedesktop.systemd1.NoSuchUnit"


def start(bus: Bus, unit: str, wanted: "list[Property]") -> None:
    """Make a transient unit and return when it is there. Raises RuntimeFailure, InvalidSpec."""
    bus.listen_to_jobs()
    values: tuple[object, ...] = (unit, "fail", _variants(wanted), [])
    try:
        try:
            (job,) = bus.call("StartTransientUnit", "ssa(sv)a(sa(sv))", *values)
        except Refused as refused:
            # It may have failed before, and be kept for those who want to know.
            if refused.name != _EXISTS or not _reset(bus, unit):
                raise
            (job,) = bus.call("StartTransientUnit", "ssa(sv)a(sa(sv))", *values)
    except Refused as refused:
        if refused.name == _EXISTS:
            text = f"linux.cgroupsPath: systemd has a unit {unit} already"
            raise InvalidSpec(text) from refused
        raise RuntimeFailure(f"systemd: start {unit}: {refused}") from refused
    result = bus.await_job(job)
    if result != "done":
        _reset(bus, unit)
        raise RuntimeFailure(f"systemd: start {unit}: job {result}", hint=f"journalctl -u {unit}")


def change(bus: Bus, unit: str, wanted: "list[Property]") -> None:
    """Set properties of a unit until it ends. Raises RuntimeFailure."""
    try:
        bus.call("SetUnitProperties", "sba(sv)", unit, True, _variants(wanted))
    except Refused as refused:
        raise RuntimeFailure(f"systemd: set properties of {unit}: {refused}") from refused


def stop(bus: Bus, unit: str) -> None:
    """Take a unit away, also one that failed, and return when it is gone. Raises RuntimeFailure."""
    bus.listen_to_jobs()
    try:
        (job,) = bus.call("StopUnit", "ss", unit, "replace")
    except Refused as refused:
        if refused.name != _GONE:
            raise RuntimeFailure(f"systemd: stop {unit}: {refused}") from refused
        return
    bus.await_job(job)
    _reset(bus, unit)


def _reset(bus: Bus, unit: str) -> bool:
    """Let go of a unit that failed; tell whether there was one."""
    try:
        bus.call("ResetFailedUnit", "s", unit)
    except RuntimeFailure:
        return False
    return True


def _variants(wanted: "list[Property]") -> "list[tuple[str, tuple[str, object]]]":
    return [(name, (kind, value)) for name, kind, value in wanted]
