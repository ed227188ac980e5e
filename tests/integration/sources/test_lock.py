"""`lock`, and builds that go by what it wrote: tags, files and branches that move meanwhile."""

import shutil
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

PLATFORMS = "linux/amd64,linux/arm64"


def entries(context: Path, table: str, name: str = "Dockerfile.lock") -> list[dict[str, str]]:
    document = tomllib.loads((context / name).read_text())
    assert document["version"] == 1
    return document.get(table, [])


def image_id(pybuild, name: str) -> str:
    return pybuild("inspect", "-f", "{{.Id}}", name).stdout.strip()


def now(pybuild, *words) -> str:
    """Build, and return what the image's file /now says."""
    folder = pybuild.root.parent / f"out-{pybuild.root.name}"
    pybuild("-o", folder, *words)
    return (folder / "now").read_text()


@pytest.fixture
def elsewhere(pybuild, tmp_path: Path):
    """Return a runner on a store that has nothing."""
    return type(pybuild)(tmp_path / "elsewhere")


@pytest.fixture
def base(pybuild, busybox_image, start_registry, context: Path) -> str:
    """Return the name of an image at a registry that is not in this machine's store any more."""
    name = f"{start_registry().host}/base:1"
    publish(pybuild, context, name, "one")
    (context / "Dockerfile").write_text(
        f"ARG TAG=1\nFROM {name[:-2]}:$TAG\nRUN cat /which > /now\n"
    )
    return name


def publish(pybuild, context: Path, name: str, text: str) -> str:
    """Push an image that says `text`; return its digest there."""
    folder = context.parent / "publish"
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(f"FROM busybox:test\nRUN echo {text} > /which\n")
    pybuild("-t", name, "--push", folder)
    (digest,) = pybuild("inspect", "-f", "{{join .RepoDigests `,`}}", name).stdout.split()
    pybuild("rmi", name)
    return digest.partition("@")[2]


# --- images


def test_a_tag_that_moves(pybuild, elsewhere, base, context) -> None:
    said = pybuild("lock", context)
    (entry,) = entries(context, "image")
    assert set(entry) == {"name", "platform", "digest", "config"}
    assert entry["name"] == base
    assert f"+ {base} ({entry['platform']}): {entry['digest'][:19]}\n" in said.stdout
    assert "Dockerfile.lock: 1 sources locked" in said.stdout
    assert base not in pybuild.image_names(), "no layer is needed to know an image"
    before = (context / "Dockerfile.lock").read_bytes()

    moved = publish(pybuild, context, base, "two")
    assert moved != entry["digest"]
    # Here the tag means the new one; there is nothing at all elsewhere. Both take the old one.
    pybuild("pull", "-q", base)
    assert now(pybuild, "--locked", context) == "one\n"
    assert now(elsewhere, "--locked", context) == "one\n"
    assert base not in elsewhere.image_names(), "the tag is not what was pulled"
    assert now(pybuild, context) == "two\n"

    # Locking again moves nothing, --update does.
    assert "1 sources, as they were" in pybuild("lock", context).stdout
    assert (context / "Dockerfile.lock").read_bytes() == before
    checked = pybuild("lock", "--check", "--update", context, check=False)
    line = f"~ {base} ({entry['platform']}): {entry['digest'][:19]} → {moved[:19]}\n"
    assert (checked.returncode, checked.stdout) == (1, line)
    assert (context / "Dockerfile.lock").read_bytes() == before
    assert line in pybuild("lock", "--update", base, cwd=context).stdout
    assert entries(context, "image")[0]["digest"] == moved
    assert now(elsewhere, "--locked", context) == "two\n"
    # What names its own content needs no entry.
    (context / "Dockerfile").write_text(f"FROM {base}@{moved}\nRUN cat /which > /now\n")
    assert f"- {base}" in pybuild("lock", context).stdout
    assert now(elsewhere, "--locked", context) == "two\n"


def test_provenance_has_what_the_lock_has(pybuild, base, context, tmp_path) -> None:
    pybuild("lock", context)
    layout = tmp_path / "layout"
    pybuild("--locked", "--provenance=min", "-o", f"type=oci,tar=false,dest={layout}", context)
    digest = entries(context, "image")[0]["digest"].removeprefix("sha256:")
    blobs = [path.read_bytes() for path in (layout / "blobs/sha256").iterdir()]
    (statement,) = [data for data in blobs if b"resolvedDependencies" in data]
    assert f'"sha256":"{digest}"'.encode() in statement.replace(b" ", b"")


def test_an_image_of_this_machine_needs_no_network(
    pybuild, elsewhere, busybox_image, context
) -> None:
    (context / "Dockerfile").write_text(
        f"FROM {busybox_image} AS unused\nFROM scratch\nCOPY --from={busybox_image} /etc /etc\n"
    )
    pybuild("lock", context)
    (entry,) = entries(context, "image")
    assert entry["config"] == image_id(pybuild, busybox_image)
    assert "digest" not in entry
    pybuild("--locked", "-t", "x", context)
    assert pybuild("lock", "--check", context).returncode == 0
    # The name means something else now; the image is here, and is what the lock says.
    pybuild("tag", busybox_image, "kept:1")
    pybuild("tag", "x", busybox_image)
    pybuild("--locked", "-t", "y", context)
    assert image_id(pybuild, "y") == image_id(pybuild, "x")
    pybuild("rmi", "kept:1")
    pybuild("system", "prune", "-f", "-a")
    failed = pybuild("--locked", context, check=False)
    assert failed.returncode == 1
    assert (
        f"error: Dockerfile:3: {busybox_image} ({entry['platform']}) is not as in Dockerfile.lock: "
        f"expected {entry['config']}, found {image_id(pybuild, busybox_image)}\n"
    ) in failed.stderr
    assert f"hint: pybuild lock --update {context} docker.io/library/{busybox_image} takes" in (
        failed.stderr
    )
    assert "found no image of this name" in elsewhere("--locked", context, check=False).stderr


def test_what_the_lock_lacks_and_has_too_much(pybuild, busybox_image, context) -> None:
    ran = context.parent / "ran"
    (context / "Dockerfile").write_text(f"FROM {busybox_image}\nRUN true\n")
    missing = pybuild("--locked", context, check=False)
    assert f"error: --locked: {context}/Dockerfile.lock: no such file\n" in missing.stderr
    pybuild("lock", context)
    pybuild("tag", busybox_image, "other:2")
    (context / "Dockerfile").write_text(
        f"FROM {busybox_image}\nRUN echo ran\nRUN --mount=from=other:2,target=/o true\n"
    )
    edited = pybuild("--locked", context, check=False)
    assert "error: Dockerfile:3: other:2 (linux/" in edited.stderr
    assert ") is not in Dockerfile.lock\nhint: pybuild lock " in edited.stderr
    assert "echo ran" not in edited.stderr.partition("Dockerfile:3")[0], "nothing has run"
    assert pybuild("lock", "--check", context, check=False).returncode == 1
    assert "+ other:2" in pybuild("lock", context).stdout
    assert "WARN" not in pybuild("--locked", context).stderr
    # Stages that are not built are no reason for a warning.
    lines = [
        "FROM other:2 AS unused",
        "FROM scratch AS last",
        f"COPY --from={busybox_image} /etc /",
    ]
    (context / "Dockerfile").write_text("\n".join(lines))
    assert "WARN" not in pybuild("--locked", context).stderr
    (context / "Dockerfile").write_text("\n".join(lines[1:]))
    stale = pybuild("--locked", context).stderr
    assert "StaleLock: Dockerfile.lock: other:2 (linux/" in stale
    assert stale.count("StaleLock") == 1
    assert "- other:2" in pybuild("lock", context).stdout
    assert not ran.exists()


def test_arguments_platforms_and_targets(pybuild, elsewhere, base, context) -> None:
    other = f"{base[:-2]}:2"
    publish(pybuild, context, other, "two")
    lock = ["--lock-file", context / "other.lock"]
    pybuild("lock", "--build-arg", "TAG=2", *lock, context)
    assert [entry["name"] for entry in entries(context, "image", "other.lock")] == [other]
    elsewhere("--locked", "--build-arg", "TAG=2", *lock, "-t", "x", context)
    wrong = elsewhere("--locked", *lock, context, check=False)
    assert f"Dockerfile:2: {base} (linux/" in wrong.stderr
    # An image that is for one platform is that image on all; a Dockerfile of another name.
    text = (context / "Dockerfile").read_text().replace(":$TAG\nRUN", ":$TAG AS one\nRUN")
    (context / "web.docker").write_text(f"{text}FROM nowhere.invalid/x:1 AS broken\n")
    words = ["-f", context / "web.docker", "--platform", PLATFORMS, "--target", "one"]
    pybuild("lock", *words, context)
    found = entries(context, "image", "web.docker.lock")
    assert [entry["platform"] for entry in found] == PLATFORMS.split(",")
    assert len({entry["digest"] for entry in found}) == 1


# --- files, repositories, contexts


def test_a_file_that_changes(pybuild, elsewhere, site, context) -> None:
    address = f"{site.address}/f.txt"
    (context / "Dockerfile").write_text(
        f"FROM scratch\nARG HOST={site.address}\nADD $HOST/f.txt /\n"
    )
    pybuild("lock", context)
    (entry,) = entries(context, "file")
    assert entry["url"] == address
    (site.folder / "f.txt").write_text("changed\n")
    asked = len(site.requests)
    pybuild("--locked", context)
    assert len(site.requests) == asked, "what is here and is what it should be is not asked for"
    failed = elsewhere("--locked", context, check=False)
    message = f"error: Dockerfile:3: {address} is not as in Dockerfile.lock: expected "
    assert f"{message}{entry['digest']}, found sha256:" in failed.stderr
    assert f"--update {context} {address} takes what is there now" in failed.stderr
    said = pybuild("lock", "--update", context).stdout
    assert f"~ {address}: {entry['digest'][:19]} → " in said
    elsewhere("--locked", context)
    (site.folder / "f.txt").unlink()
    gone = pybuild("lock", "--update", context, check=False)
    assert (gone.returncode, "Dockerfile:3: download" in gone.stderr) == (1, True)
    assert entries(context, "file"), "the lock stays"


def test_a_branch_with_new_commits(
    pybuild, elsewhere, repository, serve, context, commit, git, tmp_path
) -> None:
    address = f"{serve(repository.bare.parent, backend=True).address}/repo.git"
    (context / "Dockerfile").write_text(
        f"FROM scratch AS a\nADD {address}#main:sub /sub\nFROM a\n"
        f"ADD --keep-git-dir {address} /r\nADD {address}#{repository.first} /first\n"
    )
    pybuild("lock", context)
    found = {entry["ref"]: entry["commit"] for entry in entries(context, "git")}
    assert found == {"main": repository.second, "": repository.second}
    new = commit(repository.work, {"f": "three", "sub/dir/g": "new"})
    git(repository.work, "push", "-q", str(repository.bare), "main")
    elsewhere("--locked", "-o", tmp_path / "out", context)
    names = ("r/f", "first/f", "sub/dir/g")
    texts = [(tmp_path / "out" / name).read_text() for name in names]
    assert texts == ["two", "one", "g"]
    said = pybuild("lock", "--update", context, f"{address}#main").stdout
    assert said.startswith(f"~ {address}#main: {repository.second[:12]} → {new[:12]}\n")
    assert said.count("→") == 1
    unknown = pybuild("lock", "--update", context, "nothing", check=False)
    assert unknown.returncode == 1
    assert f"nothing is not in Dockerfile.lock\nhint: there is: {address}\n" in unknown.stderr


def test_contexts_from_elsewhere(
    pybuild, elsewhere, repository, serve, site, context, commit, git, tmp_path
) -> None:
    commit(repository.work, {"Dockerfile": "FROM scratch\nCOPY f /\n"})
    git(repository.work, "push", "-q", str(repository.bare), "main")
    address = f"{serve(repository.bare.parent, backend=True).address}/repo.git#main"
    nowhere = pybuild("lock", address, check=False)
    assert "say where the lock goes with --lock-file FILE" in nowhere.stderr
    words = ["--lock-file", tmp_path / "x.lock", address]
    pybuild("lock", *words)
    commit(repository.work, {"f": "four"})
    git(repository.work, "push", "-q", str(repository.bare), "main")
    elsewhere("--locked", "-o", tmp_path / "out", *words)
    assert (tmp_path / "out/f").read_text() == "two"
    unlocked = pybuild("--locked", address, check=False)
    assert "give the name of a commit as #REF" in unlocked.stderr
    # Named contexts, and a Dockerfile at an address.
    (site.folder / "Dockerfile").write_text("FROM scratch\nCOPY --from=g f /\nCOPY --from=h . /\n")
    named = ["--build-context", f"g={address}", "--build-context", f"h={site.address}/f.txt"]
    words = ["--lock-file", tmp_path / "y.lock", "-f", f"{site.address}/Dockerfile", *named]
    pybuild("lock", *words, context)
    urls = [entry["url"] for entry in entries(tmp_path, "file", "y.lock")]
    assert urls == [f"{site.address}/Dockerfile", f"{site.address}/f.txt"]
    pybuild("--locked", *words, context)
    (site.folder / "Dockerfile").write_text("FROM scratch\n")
    changed = elsewhere("--locked", *words, context, check=False)
    assert f"{site.address}/Dockerfile" in changed.stderr
    assert "expected sha256:" in changed.stderr


def test_a_layout(pybuild, busybox_image, context, tmp_path) -> None:
    layout = tmp_path / "layout"
    pybuild("save", "-o", tmp_path / "a.tar", busybox_image)
    layout.mkdir()
    shutil.unpack_archive(tmp_path / "a.tar", layout)
    (context / "Dockerfile").write_text("FROM base\nRUN true\n")
    words = ["--build-context", f"base=oci-layout://{layout}:test", context]
    pybuild("lock", *words)
    pybuild("--locked", *words)
    (publish := context / "other").mkdir()
    (publish / "Dockerfile").write_text(f"FROM {busybox_image}\nRUN echo > /x\n")
    pybuild("-t", "o:test", "-o", f"type=oci,tar=false,dest={layout}", publish)
    failed = pybuild("--locked", *words, check=False)
    assert "build context base (linux/" in failed.stderr
    assert "is not as in Dockerfile.lock: expected sha256:" in failed.stderr


# --- the file


def test_a_damaged_lock(pybuild, context) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    (context / "Dockerfile.lock").write_text("<<<<<<< HEAD\n")
    for words in (["--locked"], ["lock", "--update"]):
        done = pybuild(*words, context, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert "Dockerfile.lock: not valid TOML: Invalid statement (at line 1" in done.stderr
    assert (context / "Dockerfile.lock").read_text() == "<<<<<<< HEAD\n"


def test_a_false_entry(pybuild, elsewhere, base, context) -> None:
    """A lock whose digest leads to another image than it says is refused."""
    pybuild("lock", context)
    text = (context / "Dockerfile.lock").read_text()
    (entry,) = entries(context, "image")
    false = text.replace(entry["config"], f"sha256:{'0' * 64}")
    (context / "Dockerfile.lock").write_text(false)
    done = elsewhere("--locked", context, check=False)
    assert f"expected sha256:{'0' * 64}, found {entry['config']}" in done.stderr
    gone = text.replace(entry["digest"], f"sha256:{'0' * 64}").replace(
        entry["config"], f"sha256:{'1' * 64}"
    )
    (context / "Dockerfile.lock").write_text(gone)
    done = elsewhere("--locked", context, check=False)
    assert done.returncode == 1
    assert "Dockerfile:2: " in done.stderr
    assert "manifest unknown" in done.stderr


def test_words_that_make_no_sense(pybuild, context) -> None:
    (context / "Dockerfile").write_text("FROM scratch\n")
    done = pybuild("lock", context, "debian", check=False)
    assert (done.returncode, "names are for --update" in done.stderr) == (2, True)
    done = pybuild("lock", "--check", context, check=False)
    assert (done.returncode, "Dockerfile.lock: no such file" in done.stderr) == (1, True)
    assert not (context / "Dockerfile.lock").exists()
    done = pybuild("lock", "-f", "-", context, input="FROM scratch\n", check=False)
    assert "say where the lock is with --lock-file FILE" in done.stderr
