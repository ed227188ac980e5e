"""The verbs pull, push, login and logout: command lines in, requests to the Engine out."""

import contextlib
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from pybuild.cli import login, transfers
from pybuild.cli.options import parse
from pybuild.engine.registries import RegistryTerms, platform_of
from pybuild.errors import PybuildError, UsageError
from registry_client.events import BlobDone, BlobFound, Outcome
from registry_client.login import LoggedIn
from store.digest import Digest
from store.oci import Descriptor, Platform
from store.reference import Reference

DIGEST = Digest(f"sha256:{'1' * 64}")
TARGET = Descriptor("x", DIGEST, 7)


@dataclass
class FakeEngine:
    """Remembers what it was asked; a transfer of it moves one layer."""

    asked: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    is_new: bool = True
    path: str | None = "/root/.docker/config.json"
    was_known: bool = True

    def engine(self, *, reading: bool = False) -> contextlib.AbstractContextManager["FakeEngine"]:
        return contextlib.nullcontext(self)

    def _moved(self, name: str, outcome: Outcome, watch: Any) -> list[Any]:
        reference = Reference.parse(name)
        on_event = watch(reference)
        on_event(BlobFound(DIGEST, 10))
        on_event(BlobDone(DIGEST, outcome))
        return [SimpleNamespace(reference=reference, target=TARGET, is_new=self.is_new)]

    def pull(self, name: str, *, watch: Any, **more: Any) -> list[Any]:
        self.asked.append(("pull", (name,), more))
        return self._moved(name, Outcome.PULLED, watch)

    def push(self, name: str, *, watch: Any, **more: Any) -> list[Any]:
        self.asked.append(("push", (name,), more))
        return self._moved(name, Outcome.PUSHED, watch)

    def log_in(self, *words: str, terms: RegistryTerms) -> LoggedIn:
        self.asked.append(("login", words, {"terms": terms}))
        return LoggedIn(words[0], self.path)

    def log_out(self, server: str) -> tuple[str, bool]:
        self.asked.append(("logout", (server,), {}))
        return server or "docker.io", self.was_known


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    monkeypatch.delenv("DOCKER_DEFAULT_PLATFORM", raising=False)
    return FakeEngine()


def run(engine: FakeEngine, *words: str) -> int:
    module = login if words[0] in login.VERBS else transfers
    verb = module.VERBS[words[0]]
    return verb.run(parse(verb.syntax, words[1:]), engine)


def test_pull(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(engine, "pull", "debian") == 0
    assert capsys.readouterr().out == (
        "Using default tag: latest\n"
        "latest: Pulling from library/debian\n"
        "111111111111: Pulling fs layer\n"
        "111111111111: Pull complete\n"
        f"Digest: {DIGEST}\n"
        "Status: Downloaded newer image for debian:latest\n"
        "docker.io/library/debian:latest\n"
    )
    expected = {"platform": None, "all_tags": False, "terms": RegistryTerms()}
    assert engine.asked == [("pull", ("debian",), expected)]


def test_pull_of_what_is_here(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.is_new = False
    run(engine, "pull", "host.org:5000/a/b:1")
    out = capsys.readouterr().out
    assert "Using default tag" not in out
    assert "1: Pulling from a/b\n" in out
    assert "Status: Image is up to date for host.org:5000/a/b:1\n" in out


def test_quiet(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    run(engine, "pull", "-q", "debian:12")
    run(engine, "push", "--quiet", "debian:12")
    assert capsys.readouterr().out == "docker.io/library/debian:12\n" * 2


def test_options(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    run(engine, "pull", "-a", "--platform", "linux/arm64", "--tls-verify=false", "--ca", "x", "d")
    terms = RegistryTerms(tls_verify=False, ca_files=("x",))
    expected = {"platform": "linux/arm64", "all_tags": True, "terms": terms}
    assert engine.asked.pop() == ("pull", ("d",), expected)
    monkeypatch.setenv("DOCKER_DEFAULT_PLATFORM", "linux/386")
    run(engine, "pull", "--tls-verify", "d")
    assert engine.asked.pop()[2]["platform"] == "linux/386"
    run(engine, "push", "--tls-verify=true", "-a", "d")
    assert engine.asked.pop() == ("push", ("d",), {"all_tags": True, "terms": RegistryTerms()})


def test_push(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    run(engine, "push", "host.org/app")
    assert capsys.readouterr().out == (
        "Using default tag: latest\n"
        "The push refers to repository [host.org/app]\n"
        "111111111111: Preparing\n"
        "111111111111: Pushed\n"
        f"latest: digest: {DIGEST} size: 7\n"
    )


# --- login


def stdin(monkeypatch: pytest.MonkeyPatch, text: str, *, terminal: bool = False) -> None:
    stream = io.StringIO(text)
    stream.isatty = lambda: terminal  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", stream)


def test_login(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin(monkeypatch, "secret with blanks \n")
    run(engine, "login", "-u", "me", "--password-stdin", "host.org")
    assert engine.asked[0][1] == ("host.org", "me", "secret with blanks ")
    out, err = capsys.readouterr()
    assert out == "Login Succeeded\n"
    assert "stored unencrypted in '/root/.docker/config.json'" in err


def test_login_with_a_helper(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.path = None
    stdin(monkeypatch, "")
    run(engine, "login", "-u", "me", "-p", "secret")
    assert engine.asked[0][1] == ("", "me", "secret")
    err = capsys.readouterr().err
    assert "unencrypted" not in err
    assert "Using --password via the CLI is insecure" in err


def test_login_asks_on_a_terminal(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, "me\n", terminal=True)
    monkeypatch.setattr("getpass.getpass", lambda _prompt: "typed")
    run(engine, "login", "host.org")
    assert engine.asked[0][1] == ("host.org", "me", "typed")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["-p", "x", "--password-stdin", "-u", "me"], UsageError),
        (["--password-stdin"], UsageError),
        (["-p", "x"], UsageError),
        (["-u", "me", "-p", ""], UsageError),
        (["-u", "me"], PybuildError),
        (["-u", "me", "--password-stdin"], UsageError),
    ],
)
def test_login_refuses(
    words: list[str], error: type[Exception], engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin(monkeypatch, "")
    with pytest.raises(error):
        run(engine, "login", *words)
    assert engine.asked == []


@pytest.mark.parametrize("was_known", [True, False])
def test_logout(was_known: bool, engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.was_known = was_known
    run(engine, "logout")
    run(engine, "logout", "host.org")
    begin = "Removing login credentials for" if was_known else "Not logged in to"
    expected = f"{begin} https://index.docker.io/v1/\n{begin} host.org\n"
    assert capsys.readouterr().out == expected


# --- platforms


def test_platform_of() -> None:
    assert platform_of(None) is None
    assert platform_of("linux/arm64") == Platform("linux", "arm64")
    assert platform_of("linux/arm/v7") == Platform("linux", "arm", "v7")
    assert platform_of("linux/x86_64") == platform_of("amd64") == Platform("linux", "amd64")
    for text in ("", "linux/", "/arm64", "linux/arm/", "linux/arm/v7/x"):
        with pytest.raises(PybuildError, match="is an invalid platform"):
            platform_of(text)
