"""Values of the build verb's options: what they mean, and errors that name what is allowed."""

import pytest

from builder.request import Sandbox, Ulimit
from pybuild.cli.build import SYNTAX, request_of
from pybuild.cli.options import parse
from pybuild.errors import UsageError


def sandbox(*words: str) -> Sandbox:
    return request_of(parse(SYNTAX, [*words, "."])).sandbox


def test_what_containers_get() -> None:
    assert sandbox() == Sandbox()
    assert sandbox(
        *("--add-host", "a:10.0.0.1", "--add-host=b=[::1]", "--add-host", "c:host-gateway"),
        *("--add-host", "d:2001:db8::1", "--shm-size", "1.5m", "--cgroup-parent", "/x"),
        *("--ulimit", "nofile=10:20", "--ulimit", "core=-1", "--ulimit", "core=0"),
    ) == Sandbox(
        extra_hosts=(("a", "10.0.0.1"), ("b", "::1"), ("c", "host-gateway"), ("d", "2001:db8::1")),
        shm_bytes=1572864,
        ulimits=(Ulimit("nofile", 10, 20), Ulimit("core", 0, 0)),
        cgroup_parent="/x",
    )


@pytest.mark.parametrize(
    ("text", "size"),
    [("7", 7), ("2k", 2048), ("1 MB", 1 << 20), ("1GiB", 1 << 30), ("0.5g", 1 << 29)],
)
def test_sizes(text: str, size: int) -> None:
    assert sandbox("--shm-size", text).shm_bytes == size


def test_names_of_stages() -> None:
    made = request_of(parse(SYNTAX, ["-t", "a:1", "-t", "test=b:2", "--also", "lint", "."]))
    assert (made.tags, made.stage_tags, made.also) == (("a:1",), (("test", "b:2"),), ("lint",))


def test_the_epoch_of_the_environment_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "5")
    assert request_of(parse(SYNTAX, ["."])).build_args == (("SOURCE_DATE_EPOCH", "5"),)
    given = request_of(parse(SYNTAX, ["--build-arg", "SOURCE_DATE_EPOCH=6", "."]))
    assert given.build_args == (("SOURCE_DATE_EPOCH", "6"),)


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["--add-host", "x"], 'bad format for add-host: "x"', "NAME:ADDRESS"),
        (["--add-host", ":1.1.1.1"], "bad format", "NAME:ADDRESS"),
        (["--add-host", "x:1.2.3"], 'invalid IP address in add-host: "1.2.3"', "host-gateway"),
        (["--shm-size", "much"], 'invalid size: "much"', "64m"),
        (["--ulimit", "nofile"], "invalid ulimit argument", "nofile=1024:2048"),
        (["--ulimit", "files=1"], "invalid ulimit type: files", "core, cpu, data"),
        (["--ulimit", "nofile=a"], '"a" is no limit', "SOFT or SOFT:HARD"),
        (["--ulimit", "nofile=1:2:3"], "is no limit", "SOFT or SOFT:HARD"),
        (["--ulimit", "nofile=3:2"], "less than or equal to hard limit: 3 > 2", ""),
        (["--annotation", "x"], "no key=value", "index,manifest:key=value"),
        (["-t", "=x"], "no STAGE=NAME", "test=example"),
        (["--secret", "id=a,typ=file"], 'unknown key "typ"', "id, type, src, source, env"),
        (["--secret", "id=a,type=vault"], 'unsupported type "vault"', "file and env"),
        (["--allow", "device"], 'unknown entitlement "device"', "network.host, security."),
        (["--network", "mine"], 'unknown mode "mine"', "default, none, host"),
        (["-o", 'type=oci,"dest=x'], "--output", "double quotes"),
    ],
)
def test_what_is_refused(words: list[str], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        request_of(parse(SYNTAX, [*words, "."]))
    assert message in str(caught.value)
    assert hint in (caught.value.hint or "")
