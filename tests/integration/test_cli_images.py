"""The verbs about images: what they print and what they leave."""

import io
import json
import os
import re
import tarfile
from pathlib import Path

import pytest

from store.root import Store

pytestmark = pytest.mark.kernel


@pytest.fixture
def built(pybuild, busybox_image, context: Path) -> str:
    """Return the ID of an image with two names, of two layers on a base."""
    (context / "file").write_text("content\n")
    (context / "Dockerfile").write_text(
        f"FROM {busybox_image}\nCOPY file /file\nRUN echo more > /more\n"
        'ENV A="b c"\nLABEL owner=me\nEXPOSE 80\nCMD ["cat", "/file"]\n'
    )
    done = pybuild("build", "-q", "-t", "made:1", "-t", "registry.example/team/made:2", context)
    return done.stdout.strip()


def test_images(pybuild, built: str) -> None:
    lines = pybuild("images").stdout.splitlines()
    assert lines[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    rows = {tuple(line.split()[:3]) for line in lines[1:]}
    short = built.removeprefix("sha256:")[:12]
    assert ("made", "1", short) in rows
    assert ("registry.example/team/made", "2", short) in rows
    assert pybuild("images", "-q", "made").stdout == f"{short}\n"
    assert pybuild("images", "--no-trunc", "-q", "made:1").stdout == f"{built}\n"
    assert pybuild("images", "-q", "made:7").stdout == ""
    assert len(pybuild("images", "-q").stdout.split()) == 3  # a line for each name, as docker's
    (row,) = map(json.loads, pybuild("images", "--format", "json", "made").stdout.splitlines())
    assert (row["Repository"], row["Tag"], row["ID"]) == ("made", "1", short)
    template = pybuild("images", "--format", r"{{.Repository}}\t{{.Tag}}", "*/team/made")
    assert template.stdout == "registry.example/team/made\t2\n"


def test_an_image_without_a_name(pybuild, built: str) -> None:
    pybuild("rmi", "made:1")
    pybuild("tag", "busybox:test", "registry.example/team/made:2")
    row = next(line for line in pybuild("images").stdout.splitlines() if "<none>" in line)
    assert row.split()[:3] == ["<none>", "<none>", built.removeprefix("sha256:")[:12]]


def test_inspect(pybuild, built: str) -> None:
    (seen,) = json.loads(pybuild("inspect", "made:1").stdout)
    assert seen["Id"] == built
    assert seen["RepoTags"] == ["made:1", "registry.example/team/made:2"]
    assert (seen["Os"], seen["Config"]["Cmd"]) == ("linux", ["cat", "/file"])
    assert seen["Config"]["Labels"] == {"owner": "me"}
    assert len(seen["RootFS"]["Layers"]) == 3
    assert seen["Size"] > len("content\n")
    assert pybuild("inspect", "-f", "{{.Id}}", "made:1", built[7:19]).stdout == f"{built}\n" * 2
    environment = pybuild("inspect", "-f", "{{range .Config.Env}}{{println .}}{{end}}", "made:1")
    assert "A=b c\n" in environment.stdout


def test_inspect_of_what_is_not_there(pybuild, built: str) -> None:
    done = pybuild("inspect", "nothing", check=False)
    assert (done.returncode, done.stdout) == (1, "[]\n")
    assert done.stderr == "error: no such object: nothing\n"
    done = pybuild("image", "inspect", "nothing", check=False)
    assert (done.returncode, done.stderr) == (1, "error: no such image: nothing\n")
    done = pybuild("inspect", "nothing", "made:1", check=False)
    assert done.returncode == 1
    assert [seen["Id"] for seen in json.loads(done.stdout)] == [built]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{json .Config.Cmd}} {{.Config.Cmd}}", '["cat","/file"] [cat /file]'),
        ("{{.Config.User}}|{{.Config.Entrypoint}}|{{json .Config.Volumes}}", "|[]|null"),
        ("{{range $k, $v := .Config.ExposedPorts}}{{$k}}{{end}}", "80/tcp"),
        ('{{index .Config.Labels "owner"}}{{.Config.Labels.owner}}{{.Config.Labels.no}}', "meme"),
        ("{{with .Config.Healthcheck}}x{{else}}none{{end}}", "none"),
        ("{{index .RepoTags 0}} {{json .RepoDigests}}", "made:1 []"),
        ("{{.Os}}/{{.Architecture}}{{with .Variant}}/{{.}}{{end}}", None),
        ("{{len .RootFS.Layers}} {{.RootFS.Type}}", "3 layers"),
        ("{{if eq .ID .Id}}same{{end}}{{.Parent}}{{.DockerVersion}}", "same"),
        ("{{.Comment}}", "buildkit.dockerfile.v0"),
    ],
)
def test_inspect_templates(pybuild, built: str, template: str, text: str | None) -> None:
    done = pybuild("image", "inspect", "--format", template, "made:1")
    if text is not None:
        assert done.stdout == f"{text}\n"
    assert "GraphDriver" not in pybuild("inspect", "made:1").stdout


def test_inspect_of_a_type(pybuild, built: str) -> None:
    pybuild("run", "--name", "both", "made:1")
    pybuild("tag", "made:1", "both")
    assert pybuild("inspect", "-f", "{{.Name}}", "both").stdout == "/both\n"
    assert pybuild("image", "inspect", "-f", "{{.Id}}", "both").stdout == f"{built}\n"
    assert pybuild("container", "inspect", "-f", "{{.Image}}", "both").stdout == f"{built}\n"
    done = pybuild("container", "inspect", "made:1", check=False)
    assert (done.returncode, done.stdout) == (1, "[]\n")
    assert done.stderr.startswith("error: no such container: made:1\n")
    done = pybuild("inspect", "-f", "{{.Nothing}}", "made:1", check=False)
    assert done.returncode != 0
    assert "there is no field Nothing" in done.stderr


@pytest.mark.parametrize("noun", ["ls", "list"])
def test_noun_forms(pybuild, built: str, tmp_path: Path, noun: str) -> None:
    for long, short in ((["image", noun], ["images"]), (["image", "history"], ["history"])):
        name = ["made:1"] if short == ["history"] else []
        texts = [pybuild(*words, *name).stdout for words in (long, short)]
        # All but the age, which may be another a moment later and needs other blanks.
        rest = [re.sub(r"(Less than a|[0-9]+) seconds? ago", "", text).split() for text in texts]
        assert rest[0] == rest[1]
    pybuild("image", "tag", "made:1", "x:1")
    pybuild("image", "save", "-o", tmp_path / "x.tar", "x:1")
    assert pybuild("image", "rm", "x:1").stdout == "Untagged: x:1\n"
    assert pybuild("image", "load", "-i", tmp_path / "x.tar").stdout == "Loaded image: x:1\n"
    assert pybuild("image", "remove", "x:1").stdout == "Untagged: x:1\n"


def test_history(pybuild, built: str) -> None:
    header, *lines = pybuild("history", "made:1").stdout.splitlines()
    assert header.split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert lines[0].startswith(built.removeprefix("sha256:")[:12])
    assert all(line.startswith("<missing>") for line in lines[1:])
    rows = [
        json.loads(line)
        for line in pybuild(
            "history", "--format", "json", "--no-trunc", "--human=false", "made:1"
        ).stdout.splitlines()
    ]
    assert rows[0]["ID"] == built
    assert [row["CreatedBy"].split()[0] for row in rows[:6]] == [
        "CMD",
        "EXPOSE",
        "LABEL",
        "ENV",
        "RUN",
        "COPY",
    ]
    assert [int(row["Size"]) for row in rows[:6]] == [0, 0, 0, 0, 5, 8]
    assert int(rows[-1]["Size"]) > 100_000


def test_tag_and_rmi(pybuild, built: str, store_root: Path) -> None:
    pybuild("tag", "made:1", "other")
    several = pybuild("rmi", built, check=False)
    assert several.returncode == 1
    assert "force" in several.stderr
    assert pybuild("rmi", "other").stdout == "Untagged: other:latest\n"
    assert "made:1" in pybuild.image_names()
    done = pybuild("rmi", "nothing", "made:1", check=False)
    assert (done.returncode, done.stdout) == (1, "Untagged: made:1\n")
    last = pybuild("rmi", "registry.example/team/made:2").stdout.splitlines()
    assert last == ["Untagged: registry.example/team/made:2", f"Deleted: {built}"]
    assert pybuild.image_names() == {"busybox:test"}
    assert pybuild("system", "check", "--deep").stdout == "clean\n"


def test_filters(pybuild, built: str, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nCOPY file /\nLABEL owner=you x=\n")
    pybuild("build", "-q", "-t", "later:1", context)
    pybuild("build", "-q", "--label", "n=1", context)

    def listed(*filters: str) -> list[str]:
        words = [word for filter in filters for word in ("--filter", filter)]
        form = "{{.Repository}}:{{.Tag}}"
        return sorted(pybuild("images", *words, "--format", form).stdout.split())

    made = ["made:1", "registry.example/team/made:2"]
    nameless = "<none>:<none>"
    assert listed("dangling=true") == [nameless]
    assert listed("dangling=false") == ["busybox:test", "later:1", *made]
    assert listed("label=owner") == sorted([nameless, "later:1", *made])
    assert listed("label=owner=me") == made
    assert listed("label=owner=you", "label=x=") == sorted([nameless, "later:1"])
    assert listed("label=owner", "label!=n") == ["later:1", *made]
    assert listed("reference=made") == ["made:1"]
    assert listed("reference=*:1") == ["later:1", "made:1"]
    assert listed("reference=*/*/made", "reference=busybox") == ["busybox:test", made[1]]
    assert listed("reference=*made") == ["made:1"], "a star does not cross a slash"
    assert listed("since=made:1", "dangling=false") == ["later:1"]
    assert listed("before=later:1") == ["busybox:test", *made]
    assert listed("until=24h") == []
    assert listed("until=2999-01-01") == listed()
    for words, code, message in (
        (["-f", "bogus=1"], 1, "invalid filter 'bogus'"),
        (["-f", "dangling"], 2, "bad format of filter"),
        (["-f", "dangling=perhaps"], 1, "invalid filter 'dangling=perhaps'"),
        (["-f", "since=nothing"], 1, "no such image: nothing"),
        (["-f", "until=soon"], 1, "invalid filter 'until=soon'"),
    ):
        done = pybuild("images", *words, check=False)
        assert (done.returncode, done.stdout) == (code, "")
        assert message in done.stderr


def test_rmi_of_an_image_that_a_container_is_made_of(pybuild, built: str) -> None:
    short = built.removeprefix("sha256:")[:12]
    pybuild("rmi", "registry.example/team/made:2")
    pybuild("run", "--name", "ended", "made:1")
    container = pybuild("inspect", "-f", "{{.Id}}", "ended").stdout[:12]
    done = pybuild("rmi", "made:1", check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == (
        'error: conflict: unable to remove repository reference "made:1" (must force) - container'
        f" {container} is using its referenced image {short}"
    )
    done = pybuild("rmi", short, check=False)
    assert done.stderr.splitlines()[0] == (
        f"error: conflict: unable to delete {short} (must be forced) - image is being used by"
        f" stopped container {container}"
    )
    pybuild("tag", "made:1", "second")
    assert pybuild("rmi", "made:1").stdout == "Untagged: made:1\n", "another name is left"
    assert pybuild("rmi", "-f", "second").stdout.splitlines() == [
        "Untagged: second:latest",
        f"Deleted: {built}",
    ]
    assert "file" in pybuild("export", "ended").stdout, "the container keeps its layers"
    pybuild("rm", "ended")
    assert pybuild("system", "check", "--deep").stdout == "clean\n"


def test_rmi_of_an_image_that_runs(pybuild, busybox_image) -> None:
    image = pybuild("inspect", "-f", "{{.Id}}", busybox_image).stdout.strip()
    script = "trap exit TERM; echo up; sleep 60 & wait"  # pid 1 ends by no signal that it ignores
    process = pybuild.start("run", "--rm", "-i", busybox_image, "sh", "-c", script)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        done = pybuild("rmi", "-f", image[7:19], check=False)
        assert done.returncode == 1
        assert "(cannot be forced) - image is being used by running container" in done.stderr
        assert pybuild("rmi", "-f", busybox_image).stdout == f"Untagged: {busybox_image}\n"
        assert pybuild("image", "prune", "-af").stdout == "Total reclaimed space: 0B\n"
        assert pybuild("images", "-q").stdout == f"{image[7:19]}\n"
    finally:
        process.terminate()
        process.communicate()


def test_rmi_force_does_not_mind_what_is_not_there(pybuild, busybox_image) -> None:
    done = pybuild("rmi", "--force", "nothing", check=False)
    assert (done.returncode, done.stderr) == (0, "error: no such image: nothing\n")


def test_image_prune(pybuild, built: str, context: Path) -> None:
    (context / "file").write_text("other\n")
    other = pybuild("build", "-q", "-t", "made:1", "--label", "keep=1", context).stdout.strip()
    pybuild("rmi", "registry.example/team/made:2")
    pybuild("tag", "busybox:test", "made:1")
    asked = pybuild("image", "prune", input="n\n")
    assert asked.stdout == (
        "WARNING! This will remove all dangling images.\nAre you sure you want to continue? [y/N] "
    )
    pruned = pybuild("image", "prune", "-f", "--filter", "label!=keep").stdout.splitlines()
    assert pruned == ["Total reclaimed space: 0B"] or built not in "".join(pruned)
    lines = pybuild("image", "prune", input="y\n").stdout.splitlines()
    assert lines[2] == f"deleted: {other}"
    assert lines[-1].startswith("Total reclaimed space: ")
    assert pybuild.image_names() == {"busybox:test", "made:1"}
    pybuild("system", "prune", "-a")
    everything = pybuild("image", "prune", "--all", "--force").stdout.splitlines()
    assert everything[:3] == ["Deleted Images:", "untagged: busybox:test", "untagged: made:1"]
    assert everything[-1] not in ("Total reclaimed space: 0B", "")
    assert pybuild("images", "-q").stdout == ""
    assert pybuild("system", "check", "--deep").stdout == "clean\n"


def test_rmi_frees_what_only_the_image_had(pybuild, busybox_image, store_root: Path) -> None:
    (layer,) = os.listdir(store_root / "layers" / "sha256")
    lines = pybuild("rmi", busybox_image).stdout.splitlines()
    assert lines[-1] == f"Deleted: sha256:{layer}"
    assert os.listdir(store_root / "layers" / "sha256") == []
    assert os.listdir(store_root / "blobs" / "sha256") == []


def test_save_and_load(pybuild, built: str, store_root: Path, tmp_path: Path) -> None:
    archive = tmp_path / "images.tar"
    pybuild("save", "-o", archive, "made:1", "busybox:test")
    before = json.loads(pybuild("inspect", "made:1").stdout)[0]
    pybuild("rmi", "-f", built)
    pybuild("rmi", "busybox:test")
    pybuild("system", "prune", "-a")
    assert os.listdir(store_root / "layers" / "sha256") == []
    loaded = pybuild("load", "-i", archive).stdout.splitlines()
    assert sorted(loaded) == ["Loaded image: busybox:test", "Loaded image: made:1"]
    after = json.loads(pybuild("inspect", "made:1").stdout)[0]
    assert (after["Id"], after["RootFS"]) == (before["Id"], before["RootFS"])
    assert pybuild("run", "--rm", "made:1").stdout == "content\n"
    again = pybuild("load", input=archive.read_bytes())
    assert again.returncode == 0
    assert pybuild("system", "check", "--deep").stdout == "clean\n"


def test_save_by_id_has_no_name(pybuild, built: str, tmp_path: Path) -> None:
    archive = tmp_path / "images.tar"
    pybuild("save", "-o", archive, built)
    with tarfile.open(archive) as tar:
        (listed,) = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert not listed["RepoTags"]
    pybuild("rmi", "-f", built)
    assert pybuild("load", "-i", archive).stdout == f"Loaded image ID: {built}\n"


def test_save_leaves_no_half_of_a_file(pybuild, busybox_image, tmp_path: Path) -> None:
    target = tmp_path / "out.tar"
    target.write_text("precious")
    done = pybuild("save", "-o", target, busybox_image, "nothing", check=False)
    assert done.returncode == 1
    assert done.stderr == "error: no such image: nothing\n"
    assert target.read_text() == "precious"
    assert set(os.listdir(tmp_path)) == {"store", "out.tar"}


def test_import_with_changes(pybuild, busybox_rootfs: Path) -> None:
    done = pybuild(
        *("import", "-c", 'ENTRYPOINT ["echo"]', "-c", "CMD hello", "-c", "ENV A=1 B=2"),
        *("-c", "WORKDIR /w", "-m", "made here", busybox_rootfs, "imported"),
    )
    (seen,) = json.loads(pybuild("inspect", "imported").stdout)
    assert done.stdout == f"{seen['Id']}\n"
    config = seen["Config"]
    assert config["Entrypoint"] == ["echo"]
    assert config["Cmd"] == ["/bin/sh", "-c", "hello"]
    assert {"A=1", "B=2"} <= set(config["Env"])
    assert (config["WorkingDir"], seen["Comment"]) == ("/w", "made here")


def test_import_from_stdin_without_a_name(pybuild) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo("file")
        member.size = 2
        tar.addfile(member, io.BytesIO(b"x\n"))
    done = pybuild("import", "-", input=buffer.getvalue())
    assert pybuild("images", "-q", "--no-trunc").stdout == done.stdout


@pytest.mark.parametrize(
    ("words", "data", "part"),
    [
        (["load"], b"this is no archive", "load"),
        (["load"], b"", "load"),
        (["import", "-", "x"], b"this is no archive" * 100, "import"),
        (["load", "-i", "/no/such/file"], None, "/no/such/file: no such file or directory"),
        (["import", "-c", "RUN x", "/etc/hostname", "x"], None, "not one of CMD, ENTRYPOINT"),
        (["import", "-c", "CMD [", "/etc/hostname", "x:y:z"], None, "invalid reference"),
        (["tag", "busybox:test", "UPPER"], None, "must be lower case"),
        (["tag", "nothing", "x"], None, "no such image: nothing"),
        (["history", "nothing"], None, "no such image: nothing"),
        (["save", "nothing"], None, "no such image: nothing"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(
    pybuild, busybox_image, store_root: Path, words, data, part
) -> None:
    def state() -> list[str]:
        return sorted(
            str(path.relative_to(store_root))
            for path in store_root.rglob("*")
            if not path.is_relative_to(store_root / "locks")
        )

    before = state()
    done = pybuild(*words, input=data, check=False)
    assert done.returncode in (1, 2)
    assert done.stderr.startswith("error: ")
    assert part in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert "bug in pybuild" not in done.stderr
    assert state() == before


def test_cache_ls(pybuild, built: str) -> None:
    header, *lines = pybuild("cache", "ls", "--filter=type=regular").stdout.splitlines()
    assert header.split() == ["ID", "TYPE", "SIZE", "LAST", "ACCESSED", "USED", "DESCRIPTION"]
    assert [line.split()[-1] for line in lines] == ["/more", "/file"]
    ids = pybuild("cache", "ls", "-q", "--no-trunc", "--filter=type=regular").stdout.split()
    shown = pybuild("cache", "show", "--format", "{{.Step}}|{{.Number}}", *ids).stdout
    assert shown == "RUN echo more > /more|3\nCOPY file /file|2\n"
    pybuild("system", "prune", "-a")
    assert pybuild("cache", "ls", "-q").stdout == ""


def test_damage_is_named(pybuild, busybox_image, store_root: Path) -> None:
    assert pybuild("system", "check", "--deep").stdout == "clean\n"
    with Store.open(store_root) as store:
        image = store.images.find(busybox_image)
        path = Path(store.root, "blobs", "sha256", image.id.removeprefix("sha256:"))
    path.write_bytes(path.read_bytes() + b" ")
    done = pybuild("system", "check", "--deep", check=False)
    assert done.returncode == 1
    assert image.id in done.stdout
    assert done.stderr.startswith("error: ")


def test_info_and_version(pybuild, busybox_image, store_root: Path) -> None:
    seen = json.loads(pybuild("info", "-f", "json").stdout)
    assert (seen["root"], seen["images"], seen["mode"]) == (str(store_root), 1, "root")
    assert pybuild("--version").stdout.startswith("pybuild ")
    assert "python:" in pybuild("version").stdout
    assert pybuild("info", "--format", "{{.root}}").stdout == f"{store_root}\n"


def test_the_global_root_wins(pybuild, busybox_image, tmp_path: Path) -> None:
    assert pybuild("--root", tmp_path / "other", "images", "-q").stdout == ""
    assert pybuild(f"--root={tmp_path}/other", "info", "-f", "{{.root}}").stdout == (
        f"{tmp_path}/other\n"
    )
