"""The run verb's command line becomes a RunRequest."""

from pathlib import Path

import pytest

from pybuild.cli.options import parse
from pybuild.cli.run import SYNTAX, parse_mount, parse_volume, request_of
from pybuild.engine.runrequest import HostFolder, RunRequest
from pybuild.errors import NotSupported, UsageError
from runtime.errors import InvalidNetwork
from runtime.network.ports import Published


def request(*words: str) -> RunRequest:
    return request_of(parse(SYNTAX, words))


def test_the_defaults() -> None:
    assert request("image") == RunRequest(image="image")


def test_everything_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OURS", "o")
    monkeypatch.delenv("ABSENT", raising=False)
    file = tmp_path / "env"
    file.write_text("# comment\n\nA=from file\n  OURS\n")
    assert request(
        *("--rm", "-it", "-e", "A=1", "-eOURS", "-e", "ABSENT", "--env-file", str(file)),
        *("-w", "/work", "-u", "1000:50", "-v", "/host:/ctr:ro", "--entrypoint", "/bin/sh"),
        *(
            "--network",
            "pasta:-m,1500",
            "-p",
            "[::1]:80-81:8080-8081/udp",
            "-P",
            "--dns",
            "1.1.1.1",
        ),
        *("--name", "n", "-h", "box", "--add-host", "db:10.0.0.1"),
        *("--label", "k=v", "--read-only", "image", "-c", "echo hi"),
    ) == RunRequest(
        image="image",
        command=("-c", "echo hi"),
        entrypoint=("/bin/sh",),
        name="n",
        env=("A=from file", "OURS=o", "A=1", "OURS=o", "ABSENT"),
        working_dir="/work",
        user="1000:50",
        folders=(HostFolder("/host", "/ctr", read_only=True),),
        network="pasta:-m,1500",
        ports=(Published(80, 8080, 2, "udp", "::1"),),
        publish_all=True,
        dns=("1.1.1.1",),
        hostname="box",
        extra_hosts=(("db", "10.0.0.1"),),
        labels=(("k", "v"),),
        tty=True,
        interactive=True,
        read_only=True,
        remove=True,
    )


def test_an_empty_entrypoint_is_none_at_all() -> None:
    assert request("--entrypoint", "", "image").entrypoint == ()
    assert request("image").entrypoint is None


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ("/a:/b", HostFolder("/a", "/b")),
        ("/a:/b:ro", HostFolder("/a", "/b", read_only=True)),
        ("/a:/b:rw,Z", HostFolder("/a", "/b")),
        ("/a/../c:/b/", HostFolder("/c", "/b")),
    ],
)
def test_volumes(text: str, folder: HostFolder) -> None:
    assert parse_volume(text) == folder


def test_a_volume_may_be_relative_to_where_we_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_volume("./src:/src").source == f"{tmp_path}/src"


@pytest.mark.parametrize(
    "text",
    [
        "type=bind,source=/a,target=/b,readonly",
        "type=bind,src=/a,dst=/b,ro=true",
        "type=bind,src=/a,destination=/b,readonly=1",
    ],
)
def test_mounts(text: str) -> None:
    assert parse_mount(text) == HostFolder("/a", "/b", read_only=True, must_exist=True)


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["-v", "data:/b"], NotSupported, "named volumes: not supported yet"),
        (["-v", "/data"], NotSupported, "without a folder of the host"),
        (["-v", "/a:b"], UsageError, "no absolute path"),
        (["-v", "/a:/"], UsageError, "no absolute path below /"),
        (["-v", "/a:/b:ro:x"], UsageError, "too many colons"),
        (["-v", "/a:/b:nocopy"], NotSupported, 'option "nocopy"'),
        (["--mount", "type=tmpfs,target=/x"], NotSupported, "type=tmpfs"),
        (["--mount", "type=bind,source=/x"], UsageError, "absolute target"),
        (["--mount", "type=bind,src=/a,dst=/b,bind-propagation=shared"], NotSupported, "bind-prop"),
        (["-w", "relative"], UsageError, "no absolute path"),
        (["-e", "=x"], UsageError, "is no variable"),
        (["-e", "A B=x"], UsageError, "is no variable"),
        (["--network", "bridge"], InvalidNetwork, 'unknown mode "bridge"'),
        (["--network", "pasta:--pid,/x"], InvalidNetwork, "option '--pid': not supported"),
        (["--network", "slirp4netns:mtu=1"], InvalidNetwork, "mtu=1 is a number from 68"),
        (["--dns", "localhost"], UsageError, "is no address"),
        (["-p", "web:80"], InvalidNetwork, "-p web:80: no port mapping"),
        (["--add-host", "x"], UsageError, "no name:address"),
        (["--pull", "often"], UsageError, "none of missing, always, never"),
        (["-l", "=x"], UsageError, "has no key"),
        (["--gpus", "all"], NotSupported, "--gpus: not supported yet"),
    ],
)
def test_what_is_refused(words: list[str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        request(*words, "image")
