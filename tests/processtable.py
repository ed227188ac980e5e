"""Which processes there are, as tests ask for it."""

from pathlib import Path


def is_running(pid: int) -> bool:
    """Tell whether a process has not ended.

    One that has ended and was not reaped counts as ended: it belongs to this machine's pid 1, which
    may look only every other second.
    """
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")
