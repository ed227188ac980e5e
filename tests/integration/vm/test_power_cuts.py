"""The power of the emulated machine goes: what a command had reported done is there after."""

import json
from pathlib import Path

import pytest

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

# The journal of ext4 is written by our own calls only, not by its timer, which would hide a call
# that is missing.
RUN = """\
#!/bin/sh
mount -o remount,commit=300 /disk
echo 60000 >/proc/sys/vm/dirty_writeback_centisecs
export PYTHONPATH=/payload/project PYBUILD_ROOT=/disk/store
exec python3 power.py
"""
BUILDS_PER_CUT = 1.5


class Ledger:
    """What the machine said before its power went."""

    def __init__(self) -> None:
        self.done: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.next = 0

    def note(self, lines: list[str]) -> None:
        """Take over what `lines` report as done."""
        for line in lines:
            word, *rest = line.split()
            if word == "begin":
                self.next = int(rest[0])
                self.done.pop(rest[0], None)
            elif word == "done":
                self.done[rest[0]] = rest[1]
                self.next = int(rest[0]) + 1
            elif word == "tag":
                self.tags[rest[0]] = rest[1] if len(rest) > 1 else ""

    def take(self) -> bytes:
        """Return what the next boot has to prove: the last images, and all tags since."""
        state = {"done": self.done, "tags": self.tags, "next": self.next}
        self.done, self.tags = dict(list(self.done.items())[-2:]), {}
        return json.dumps(state).encode()


def test_power_cuts(machine, busybox_rootfs, tmp_path, rounds) -> None:
    disk = machine.make_disk(tmp_path / "disk.img", 2048)
    script = Path(__file__).with_name("power.py")
    ledger = Ledger()
    count = rounds(20, 2)
    for cut in range(count + 1):
        files = {"rootfs.tar": busybox_rootfs, "power.py": script, "done.json": ledger.take()}
        guest = machine.start(RUN, files=files, disk=disk)
        took_s = float(guest.wait_for("ready").split()[1])
        if cut < count:  # after the last one it only proves
            guest.listen(took_s * BUILDS_PER_CUT * (cut + 0.5) / count)
        guest.cut_power()
        wrong = [line for line in guest.lines if line.startswith("wrong")]
        assert not wrong, f"after cut {cut}: {wrong}"
        ledger.note(guest.lines)
