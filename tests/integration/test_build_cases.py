"""The cases of testdata/builds: whole images are what another builder made of the same.

What it made is recorded (scripts/record_builds.py), so this needs nobody but us.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from builds import baseimage, cases, imagetree, sources

from builder.build import build
from builder.errors import BuildError
from builder.request import BuildRequest, Output, SecretSource
from grammar.errors import GrammarError
from runtime.cancel import Cancel
from store.importer import import_rootfs
from store.reference import Reference
from store.root import Store

pytestmark = pytest.mark.kernel

CASES = cases.read_cases()
RECORDED = cases.recorded()["cases"]


@dataclass(frozen=True)
class Workshop:
    """One store for all cases: starting a command takes longer than a build."""

    store: Store
    base: imagetree.Image
    folder: Path

    def build(self, case: cases.Case) -> imagetree.Image:
        """Build a case and return its image."""
        archive = self.folder / "image.tar"
        for name, value in case.secrets.items():
            (self.folder / name).write_text(value)
        request = BuildRequest(
            context=str(self.context_of(case)),
            dockerfile="-",
            dockerfile_text=case.text.encode(),
            build_args=tuple(case.build_args.items()),
            target=case.target,
            secrets=tuple(SecretSource(name, str(self.folder / name)) for name in case.secrets),
            network="none",
            outputs=(Output("oci", (("dest", str(archive)), ("compression", "none"))),),
        )
        build(self.store, request, lambda event: None, Cancel())
        return imagetree.read_oci(archive)

    def context_of(self, case: cases.Case) -> Path:
        """Return a folder with a case's files; cases with the same files share it."""
        return self._made(case.name if case.rows is not cases.COMMON_ROWS else "", case.rows)

    def _made(self, name: str, rows: tuple[sources.Row, ...]) -> Path:
        folder = self.folder / "contexts" / (name or "common context")
        if not folder.exists():
            sources.make_files(folder, rows)
        return folder


@pytest.fixture(scope="module")
def workshop(tool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    folder = tmp_path_factory.mktemp("cases")
    tar = folder / "base.tar"
    baseimage.write_busybox(tar, tool("busybox"), baseimage.CASE_ROWS)
    with Store.open(folder / "store") as store:
        with tar.open("rb") as stream:
            import_rootfs(store, stream, reference=Reference.parse("base"))
        yield Workshop(store, imagetree.read_rootfs(tar), folder)


@pytest.mark.parametrize("name", [case.name for case in CASES.values() if not case.refused])
def test_images(name: str, workshop: Workshop) -> None:
    case = CASES[name]
    image = workshop.build(case)
    if not case.cites:
        assert cases.outcome(image, workshop.base) == cases.expected(case)
        return
    said = (case.files, case.absent, case.config, case.history)
    assert cases.as_cited(case, image), (said, cases.outcome(image, workshop.base))


@pytest.mark.parametrize("name", [case.name for case in CASES.values() if case.refused])
def test_refused(name: str, workshop: Workshop) -> None:
    """What another builder refuses too; our error has its place in the Dockerfile."""
    case = CASES[name]
    with pytest.raises((BuildError, GrammarError)) as caught:
        workshop.build(case)
    place = () if ".dockerignore" in case.refused else ("Dockerfile:",)
    for part in (*case.refused, *place):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert case.cites or "refused" in RECORDED[name]


def test_buildah_agrees(workshop: Workshop, peers, tmp_path: Path, rounds) -> None:
    """buildah has the same rules in many cases; those with the word in `buildah` it judges."""
    buildah = peers("buildah")
    container = buildah("from", "scratch").strip()
    buildah("add", container, workshop.folder / "base.tar", "/")
    buildah("commit", "-q", container, "localhost/base")
    judged = [case for case in CASES.values() if case.buildah]
    count = rounds(len(judged), 4)
    for case in judged[:: len(judged) // count][:count]:
        (tmp_path / "Dockerfile").write_text(case.text.replace("FROM base", "FROM localhost/base"))
        archive = tmp_path / "judged.tar"
        archive.unlink(missing_ok=True)
        words = ("--layers", "-q", "-f", tmp_path / "Dockerfile", "-t", "localhost/judged")
        buildah("build", *words, workshop.context_of(case))
        buildah("push", "-q", "localhost/judged", f"oci-archive:{archive}")
        made = cases.outcome(imagetree.read_oci(archive), workshop.base)["files"]
        assert made == RECORDED[case.name]["files"], case.name


def test_every_case_has_a_source() -> None:
    """A result was recorded, or the case names what it follows; nothing else is recorded."""
    assert {case.name for case in CASES.values() if not case.cites} == set(RECORDED)
    assert [
        case.name
        for case in CASES.values()
        if case.cites
        and not (case.refused or case.files or case.absent or case.config or case.history)
    ] == []
