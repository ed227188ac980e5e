"""The config of built images, as it lies in the store: BuildKit (dockerd 20.10) made the same.

Only HEALTHCHECK is told of as the newest BuildKit does.
"""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel


def layer(name: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    return buffer.getvalue()


def archive(path: Path, name: str, layers: int, **fields: object) -> Path:
    """Write a docker archive of an image whose config has, besides the usual, `fields`."""
    tars = [layer(f"l{number}") for number in range(layers)]
    diff_ids = [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars]
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            **fields,
        }
    ).encode()
    names = [f"{number}/layer.tar" for number in range(layers)]
    entry = {"Config": "config.json", "RepoTags": [name], "Layers": names}
    files = {"config.json": config, "manifest.json": json.dumps([entry]).encode()}
    files |= dict(zip(names, tars, strict=True))
    with tarfile.open(path, "w") as tar:
        for what, data in files.items():
            member = tarfile.TarInfo(what)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def config_of(pybuild, name: str) -> dict[str, object]:
    """Return the config of an image, byte for byte what its ID is the digest of."""
    identity = json.loads(pybuild("inspect", name).stdout)[0]["Id"]
    blob = pybuild.root / "blobs/sha256" / identity.removeprefix("sha256:")
    return json.loads(blob.read_text())


def history_of(config: dict[str, object]) -> list[str]:
    """Return an image's history, a word for each entry: a dash is an empty layer."""
    return [
        ("-" if entry.get("empty_layer") else "") + entry.get("created_by", "").split()[0]
        for entry in config["history"]  # type: ignore[attr-defined]
    ]


H = {"created_by": "a", "created": "2001-01-01T00:00:00Z"}
EMPTY = {"created_by": "b", "empty_layer": True}
BUILT = ["-ENV", "COPY", "-LABEL"]
BASES = {
    "none": (2, None, [*BUILT, "created", "created"]),
    "fewer": (3, [H, EMPTY], ["a", "-b", *BUILT, "created", "created"]),
    "right": (1, [EMPTY, H], ["-b", "a", *BUILT]),
    "timeless": (2, [{"created_by": "a"}, EMPTY, {"created_by": "c"}], ["a", "-b", "c", *BUILT]),
}


@pytest.mark.parametrize("kind", BASES)
def test_histories_of_odd_bases(kind: str, pybuild, context, tmp_path) -> None:
    layers, history, expected = BASES[kind]
    more = {} if history is None else {"history": history}
    pybuild("load", "-i", archive(tmp_path / "x.tar", "odd:1", layers, **more))
    (context / "f").write_text("f")
    (context / "Dockerfile").write_text("FROM odd:1\nENV A=1\nCOPY f /\nLABEL x=y\n")
    pybuild("-t", "x", context)
    config = config_of(pybuild, "x")
    assert history_of(config) == expected
    assert all(entry["created"] for entry in config["history"])
    assert config["created"] == config["history"][-1]["created"]
    added = [e for e in config["history"] if e["created_by"] == "created by buildkit"]
    assert {e["comment"] for e in added} <= {"buildkit.exporter.image.v0"}
    first = pybuild("-t", "y", context)
    assert first.stderr.count("CACHED") == 2
    assert config_of(pybuild, "y") == config


def test_what_a_base_says_of_itself_is_not_said_of_its_child(pybuild, context, tmp_path) -> None:
    inner = {"Env": ["PATH=/bin"], "Hostname": "h", "Image": "sha256:0", "X-Inner": 1, "User": "u"}
    fields = {"container": "c", "container_config": {}, "moby.buildkit.cache.v0": "e30="}
    path = archive(tmp_path / "x.tar", "odd:1", 1, config=inner, author="me", **fields)
    pybuild("load", "-i", path)
    (context / "Dockerfile").write_text("FROM odd:1\nENV A=1\n")
    pybuild("-t", "x", context)
    config = config_of(pybuild, "x")
    assert set(config) == {
        *("architecture", "os", "author", "config", "rootfs", "history", "created")
    } - ({"created"} - set(config))
    assert config["author"] == "me"
    assert config["config"] == {"User": "u", "Env": ["PATH=/bin", "A=1"]}


def test_what_instructions_leave_in_config_and_history(pybuild, busybox_image, context) -> None:
    (context / "f").write_text("f")
    lines = [
        (f"FROM {busybox_image}", None),
        ("ARG A=1", "ARG A=1"),
        ("ARG B", "ARG B"),
        ("ENV A=2", "ENV A=2"),
        ("RUN true", "RUN |2 A=2 B= /bin/sh -c true # buildkit"),
        ('RUN ["true", "a b"]', "RUN |2 A=2 B= true a b # buildkit"),
        ("COPY --chown=1:2 f f /d/", "COPY --chown=1:2 f f /d/ # buildkit"),
        ("ADD --chmod=600 f /e", "ADD --chmod=600 f /e # buildkit"),
        ("WORKDIR /", "WORKDIR /"),
        ("WORKDIR a/../b/", "WORKDIR /b"),
        ("EXPOSE 127.0.0.1:1:443/TCP 80-81 80", "EXPOSE [443/tcp 80/tcp 80/tcp 81/tcp]"),
        ('VOLUME ["/v w"]', "VOLUME [/v w]"),
        ("USER app", "USER app"),
        ('SHELL ["/bin/sh", "-ec"]', "SHELL [/bin/sh -ec]"),
        ('CMD echo "x"', r'CMD ["/bin/sh" "-ec" "echo \"x\""]'),
        ('ENTRYPOINT ["a\\tb"]', r'ENTRYPOINT ["a\tb"]'),
        (
            "HEALTHCHECK --interval=90s --retries=10 CMD x",
            "HEALTHCHECK {Test:[CMD-SHELL x] Interval:1m30s Timeout:0s StartPeriod:0s"
            " StartInterval:0s Retries:10}",
        ),
        (
            "HEALTHCHECK NONE",
            "HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s"
            " StartInterval:0s Retries:0}",
        ),
        ("STOPSIGNAL 9", "STOPSIGNAL 9"),
        ('MAINTAINER A "b"', 'MAINTAINER A "b"'),
        ('LABEL a="b c" d=', "LABEL a=b c d="),
        ("ONBUILD RUN true", None),
    ]
    (context / "Dockerfile").write_text("".join(f"{line}\n" for line, _ in lines))
    pybuild("-t", "x", context)
    config = config_of(pybuild, "x")
    shown = [entry["created_by"] for entry in config["history"][1:]]
    assert shown == [text for _, text in lines if text is not None]
    assert {entry["comment"] for entry in config["history"][1:]} == {"buildkit.dockerfile.v0"}
    inner = config["config"]
    assert inner["ExposedPorts"] == {"443/tcp": {}, "80/tcp": {}, "81/tcp": {}}
    assert inner["Cmd"] == ["/bin/sh", "-ec", 'echo "x"']
    assert inner["ArgsEscaped"] is True
    assert inner["Healthcheck"] == {"Test": ["NONE"]}
    assert inner["OnBuild"] == ["RUN true"]
    assert (inner["User"], inner["WorkingDir"], inner["Shell"]) == ("app", "/b", ["/bin/sh", "-ec"])
    assert config["author"] == 'A "b"'


def test_a_base_without_a_directory_leaves_it_so(pybuild, busybox_image, context) -> None:
    (context / "Dockerfile").write_text(f"FROM {busybox_image}\nRUN pwd > /pwd\n")
    pybuild("-t", "x", context)
    assert "WorkingDir" not in config_of(pybuild, "x")["config"]
    assert pybuild("run", "--rm", "x", "sh", "-c", "cat /pwd; pwd").stdout == "/\n/\n"
    (context / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    pybuild("-t", "x", context)
    assert config_of(pybuild, "x")["config"]["WorkingDir"] == "/"


def test_a_base_by_its_digest(pybuild, busybox_image, context, tmp_path) -> None:
    (context / "Dockerfile").write_text(f"FROM {busybox_image}\nENV A=1\n")
    pybuild("-t", "base:1", "-o", f"type=oci,dest={tmp_path}/x.tar", context)
    pybuild("rmi", "base:1", check=False)
    pybuild("load", "-i", tmp_path / "x.tar")
    with tarfile.open(tmp_path / "x.tar") as tar:
        index = tar.extractfile("index.json")
        assert index is not None
        digest = json.load(index)["manifests"][0]["digest"]
    for name in (f"base@{digest}", f"base:1@{digest}"):
        (context / "Dockerfile").write_text(f"FROM {name}\nRUN test $A = 1\n")
        pybuild("-t", "x", context)
    wrong = digest[:-1] + ("0" if digest[-1] != "0" else "1")
    (context / "Dockerfile").write_text(f"FROM base:1@{wrong}\nRUN true\n")
    result = pybuild("build", context, check=False)
    assert result.returncode == 1
    assert "base:1" not in result.stdout
