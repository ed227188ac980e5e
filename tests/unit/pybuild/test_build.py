"""The build verb's command line becomes a BuildRequest."""

import io
import sys
from types import SimpleNamespace

import pytest

from builder.request import BuildRequest, Output, SecretSource, SshSource
from pybuild.cli.build import SYNTAX, progress_kind, request_of
from pybuild.cli.buildvalues import parse_output, parse_secret
from pybuild.cli.options import parse
from pybuild.errors import NotSupported, UsageError


def request(*words: str) -> BuildRequest:
    return request_of(parse(SYNTAX, words))


@pytest.fixture(autouse=True)
def _no_wishes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DOCKER_DEFAULT_PLATFORM", "BUILDKIT_PROGRESS", "SOURCE_DATE_EPOCH"):
        monkeypatch.delenv(name, raising=False)


def test_the_defaults() -> None:
    assert request(".") == BuildRequest(context=".")


def test_everything_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_ENV", "e")
    monkeypatch.delenv("ABSENT", raising=False)
    assert request(
        *("-f", "sub/Dockerfile", "-t", "a", "--tag=b:1", "--target", "build", "--no-cache"),
        *("--build-arg", "K=V=W", "--build-arg", "FROM_ENV", "--build-arg", "ABSENT"),
        *("--build-arg", "EMPTY=", "--label", "x=y", "--label", "bare", "--platform"),
        *("linux/amd64", "-o", "type=oci,dest=out.tar", "--jobs", "3", "ctx"),
    ) == BuildRequest(
        context="ctx",
        dockerfile="sub/Dockerfile",
        tags=("a", "b:1"),
        build_args=(("K", "V=W"), ("FROM_ENV", "e"), ("EMPTY", "")),
        labels=(("x", "y"), ("bare", "")),
        target="build",
        no_cache=True,
        platform="linux/amd64",
        outputs=(Output("oci", (("dest", "out.tar"),)),),
        jobs=3,
    )


def test_the_dockerfile_may_come_on_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"FROM scratch\n")))
    made = request("-f", "-", ".")
    assert (made.dockerfile, made.dockerfile_text) == ("-", b"FROM scratch\n")


def test_the_default_platform_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_DEFAULT_PLATFORM", "linux/arm64")
    assert request(".").platform == "linux/arm64"
    assert request("--platform", "linux/amd64", ".").platform == "linux/amd64"
    both = request("--platform", "linux/amd64", "--platform", "linux/arm64", ".")
    assert both.platform == "linux/amd64,linux/arm64"


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("type=oci,dest=a.tar", Output("oci", (("dest", "a.tar"),))),
        ("dest=a.tar,type=oci", Output("oci", (("dest", "a.tar"),))),
        ('type=image,"name=a,b"', Output("image", (("name", "a,b"),))),
        ("Type=oci, Dest=x=y", Output("oci", (("dest", "x=y"),))),
        ("out", Output("local", (("dest", "out"),))),
        ("-", Output("tar", (("dest", "-"),))),
    ],
)
def test_outputs(text: str, output: Output) -> None:
    assert parse_output(text) == output


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("id=a", SecretSource("a")),
        ("id=a,src=f", SecretSource("a", path="f")),
        ("id=a,source=f,type=file", SecretSource("a", path="f")),
        ("type=file,id=a", SecretSource("a", path="a")),
        ("id=a,env=V", SecretSource("a", variable="V")),
        ("id=a,type=env", SecretSource("a", variable="a")),
        ("ID=a,type=env,src=V", SecretSource("a", variable="V")),
        ('"id=a,b",src=f', SecretSource("a,b", path="f")),
    ],
)
def test_secrets(text: str, secret: SecretSource) -> None:
    assert parse_secret(text) == secret
    assert request("--secret", text, ".").secrets == (secret,)


def test_agents() -> None:
    assert request("--ssh", "default", "--ssh", "a=/s", "--ssh", "b=k1,k2", ".").ssh == (
        SshSource("default"),
        SshSource("a", ("/s",)),
        SshSource("b", ("k1", "k2")),
    )


def test_what_a_build_is_allowed() -> None:
    both = ("security.insecure", "network.host")
    assert request("--allow", ",".join(both), ".").allow == both
    assert request("--allow", both[0], "--network=host", ".") == BuildRequest(
        context=".", allow=both, network="host"
    )


def test_load_adds_the_store_to_other_outputs() -> None:
    assert request("--load", ".").outputs == ()
    oci = Output("oci", (("dest", "x"),))
    assert request("--load", "-o", "type=oci,dest=x", ".").outputs == (Output("image"), oci)


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["-o", "dest=x,compression=zstd", "."], UsageError, "names no type"),
        (["-o", "type=oci,zstd", "."], UsageError, "no key=value"),
        (["--jobs", "0", "."], UsageError, "no number above 0"),
        (["--jobs", "many", "."], UsageError, "no number above 0"),
        (["--build-arg", "=x", "."], UsageError, "has no name"),
        (["--label", "=x", "."], UsageError, "has no key"),
        (["-f", "-", "-"], UsageError, "both context and Dockerfile"),
        (["--build-context", "x", "."], UsageError, '"x" is no NAME=WHERE'),
        (["--build-context", "=x", "."], UsageError, "is no NAME=WHERE"),
        (["--secret", "src=x", "."], UsageError, "has no id"),
        (["--secret", "id", "."], UsageError, "no key=value"),
        (["--ssh", "=x", "."], UsageError, "has no id"),
        (["--policy", "x", "."], NotSupported, "--policy: not supported yet"),
    ],
)
def test_what_is_refused(words: list[str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        request(*words)


@pytest.mark.parametrize(
    ("words", "environment", "kind"),
    [
        ([], None, "auto"),
        (["--progress", "plain"], None, "plain"),
        (["-q"], None, "quiet"),
        (["--progress=quiet"], None, "quiet"),
        (["--progress=none"], None, "none"),
        (["--progress=tty"], "plain", "tty"),
        (["-q", "--progress=auto"], "plain", "quiet"),
        ([], "plain", "plain"),
        ([], "tty", "auto"),
        ([], "fancy", "auto"),
        (["--progress", "auto"], "quiet", "auto"),
    ],
)
def test_the_kind_of_progress(
    words: list[str], environment: str | None, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if environment is not None:
        monkeypatch.setenv("BUILDKIT_PROGRESS", environment)
    assert progress_kind(parse(SYNTAX, [*words, "."])) == kind


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--progress", "fancy"], '"fancy" is none of auto, tty, plain, quiet, none, rawjson'),
        (["-q", "--progress", "plain"], "--progress plain and --quiet cannot be used together"),
    ],
)
def test_progress_that_makes_no_sense(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        progress_kind(parse(SYNTAX, [*words, "."]))
