"""Contexts from standard input and from servers: images are what another builder made of them."""

from pathlib import Path

import pytest
from builds import baseimage, cases, contexts, imagetree

pytestmark = pytest.mark.kernel

RECORDED = cases.recorded()["contexts"]


def test_contexts(serve, pybuild, tool, tmp_path: Path) -> None:
    """One store for all of them; what differs is shown by name."""
    tar, archive = tmp_path / "base.tar", tmp_path / "image.tar"
    baseimage.write_busybox(tar, tool("busybox"), baseimage.CASE_ROWS)
    pybuild("import", tar, "base")
    base = imagetree.read_rootfs(tar)
    found = {}
    for case in contexts.read_context_cases():
        http = git = None
        if case.is_served:
            folder = tmp_path / case.name
            folder.mkdir()
            case.serve_from(folder)
            http, git = serve(folder), serve(folder, backend=True)
        words = case.words(http.address if http else "", git.address if git else "")
        output = f"type=oci,dest={archive},compression=none"
        data = None if case.is_served else case.data()
        made = pybuild(
            "build", "--network=none", "-o", output, *words, input=data, check=not case.refused
        )
        if case.refused:
            assert case.refused in made.stderr, case.name
            assert "refused" in RECORDED[case.name]
        else:
            found[case.name] = cases.outcome(imagetree.read_oci(archive), base)
    for name in found:
        assert found[name]["files"] == RECORDED[name]["files"], name
    assert found == {name: row for name, row in RECORDED.items() if "refused" not in row}
