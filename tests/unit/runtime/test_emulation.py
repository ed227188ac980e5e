"""Whether programs of another architecture can run, as binfmt_misc's files say."""

from pathlib import Path

import pytest

from runtime.emulation import emulator_missing
from store.oci import Platform

AMD, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


@pytest.fixture
def binfmt(tmp_path: Path) -> Path:
    (tmp_path / "register").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("wanted", "host"),
    [
        (AMD, AMD),
        (Platform("linux", "amd64", "v3"), AMD),
        (Platform("linux", "386"), AMD),
        (Platform("linux", "arm", "v7"), ARM64),
    ],
)
def test_what_a_processor_runs_itself(wanted: Platform, host: Platform, tmp_path: Path) -> None:
    assert emulator_missing(wanted, host, str(tmp_path / "none")) is None


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("enabled\ninterpreter /usr/bin/qemu\nflags: OCF\noffset 0\n", None),
        ("enabled\ninterpreter /usr/bin/qemu\nflags: \n", "without the flag F"),
        ("disabled\ninterpreter /usr/bin/qemu\nflags: F\n", "no emulator for arm64"),
        (None, "no emulator for arm64"),
    ],
)
def test_an_emulator(text: str | None, cause: str | None, binfmt: Path) -> None:
    if text is not None:
        (binfmt / "qemu-aarch64").write_text(text)
    found = emulator_missing(ARM64, AMD, str(binfmt))
    assert found is None if cause is None else cause in str(found)


def test_what_cannot_be(binfmt: Path, tmp_path: Path) -> None:
    assert "not mounted" in str(emulator_missing(ARM64, AMD, str(tmp_path / "none")))
    windows = Platform("windows", "amd64")
    assert emulator_missing(windows, AMD, str(binfmt)) == "this machine runs linux"
