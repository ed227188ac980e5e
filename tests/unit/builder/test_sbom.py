"""What a generator of lists may leave behind, and what is made of it."""

import json
import os
from pathlib import Path

import pytest

from builder.errors import ExportError
from builder.export.sbom import scanned

SPDX = {"spdxVersion": "SPDX-2.3", "name": "raw"}
STATEMENT = {"predicateType": "https://spdx.dev/Document", "predicate": {"name": "wrapped"}}


def read(root: Path) -> list[tuple[str, object, str]]:
    fd = os.open(root, os.O_RDONLY)
    try:
        return [(each.predicate_type, each.predicate, each.file) for each in scanned(fd)]
    finally:
        os.close(fd)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "run/out"
    folder.mkdir(parents=True)
    return folder


def test_the_images_own_list_comes_first(out: Path, tmp_path: Path) -> None:
    (out / "a.spdx.json").write_text(json.dumps(SPDX))
    (out / "sbom.spdx.json").write_text(json.dumps(STATEMENT))
    (out / "z.json").write_text('{"bomFormat": "CycloneDX"}')
    assert read(tmp_path) == [
        ("https://spdx.dev/Document", {"name": "wrapped"}, "sbom.spdx.json"),
        ("https://spdx.dev/Document", SPDX, "a.spdx.json"),
        ("https://cyclonedx.org/bom", {"bomFormat": "CycloneDX"}, "z.json"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type": "x"}', "the generator's sbom.spdx.json is no list of packages"),
        ("[]", "is no list of packages"),
        ("{", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        (
            json.dumps(STATEMENT).replace("spdx.dev/Document", "slsa.dev/provenance/v1"),
            "provenance",
        ),
    ],
)
def test_what_is_no_list(out: Path, tmp_path: Path, text: str, message: str) -> None:
    (out / "sbom.spdx.json").write_text(text)
    with pytest.raises(ExportError, match=message):
        read(tmp_path)


def test_nothing_is_followed_and_nothing_waited_for(out: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="has written nothing"):
        read(tmp_path)
    (out / "sbom.json").symlink_to("/etc/passwd")
    with pytest.raises(ExportError, match="cannot be read: too many levels"):
        read(tmp_path)
    (out / "sbom.json").unlink()
    os.mkfifo(out / "sbom.json")
    with pytest.raises(ExportError, match=r"sbom\.json is no file"):
        read(tmp_path)
    (out / "sbom.json").unlink()
    out.rmdir()
    out.symlink_to("/etc")
    with pytest.raises(ExportError, match="cannot be read: not a directory"):
        read(tmp_path)
