"""How steps are walled in, by what this process may do and by what the build asks for."""

import os

import pytest

from builder import isolation
from builder.errors import Place
from builder.isolation import isolation_of, refusal
from builder.request import Sandbox
from runtime.rootless import entering
from runtime.rootless.mode import Mode, Reason

ASKED, USUAL = Sandbox(isolation="chroot"), Sandbox()


@pytest.mark.parametrize(
    ("kind", "sandbox", "container", "wanted"),
    [
        ("root", USUAL, False, "namespaces"),
        ("root", USUAL, True, "namespaces"),
        ("root", ASKED, False, "chroot"),
        ("subordinate", USUAL, False, "namespaces"),
        ("single", USUAL, False, "namespaces"),
        ("single", ASKED, False, "chroot"),
        ("chroot", USUAL, False, "none"),
        ("chroot", USUAL, True, "chroot"),
        ("chroot", ASKED, False, "chroot"),
        ("none", USUAL, True, "none"),
        ("none", ASKED, True, "none"),
    ],
)
def test_the_best_wall_that_there_is(monkeypatch, kind, sandbox, container, wanted) -> None:
    monkeypatch.setattr(entering, "_mode", Mode(kind))
    monkeypatch.setattr(isolation, "MARKS", (os.devnull,) if container else ())
    for name in isolation.NAMED:
        monkeypatch.delenv(name, raising=False)
    assert isolation_of(sandbox) == wanted


@pytest.mark.parametrize(
    ("sandbox", "container", "wanted"),
    [(USUAL, True, "shared"), (ASKED, False, "shared"), (USUAL, False, "none")],
)
def test_without_a_proc_of_its_own(monkeypatch, sandbox, container, wanted) -> None:
    found = Mode("subordinate", (Reason("so it is", "do this"),), own_proc=False)
    monkeypatch.setattr(entering, "_mode", found)
    monkeypatch.setattr(isolation, "MARKS", (os.devnull,) if container else ())
    for name in isolation.NAMED:
        monkeypatch.delenv(name, raising=False)
    assert isolation_of(sandbox) == wanted
    error = refusal(Place("Dockerfile", 1, 1))
    assert str(error) == "Dockerfile:1: RUN: no /proc can be mounted for it here"
    assert "--isolation=chroot runs it with the processes around" in (error.hint or "")


@pytest.mark.parametrize(
    ("kind", "part"), [("chroot", "--isolation=chroot runs it"), ("none", "so")]
)
def test_a_refusal_says_what_would_help(monkeypatch, kind, part) -> None:
    monkeypatch.setattr(entering, "_mode", Mode(kind, (Reason("so it is", "do this"),)))
    error = refusal(Place("Dockerfile", 1, 1))
    assert part in (error.hint or "")
    assert "so it is (do this)" in (error.hint or "")
