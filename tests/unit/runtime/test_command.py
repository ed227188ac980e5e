"""The command's environment and the words of its failures."""

import errno

import pytest

from runtime.launch.command import CommandFailed, _explain, environment, execute


def test_environment():
    env = environment(["A=1", "B", "A=2=3", "C="], "/home/x", tty=False)
    assert env == {b"A": b"2=3", b"B": b"", b"C": b"", b"HOME": b"/home/x"}
    assert environment(["HOME=/y", "TERM=vt100"], "/x", tty=True) == {
        b"HOME": b"/y",
        b"TERM": b"vt100",
    }
    assert environment([], "/", tty=True)[b"TERM"] == b"xterm"
    assert environment(["X=\udcff"], "/", tty=False)[b"X"] == b"\xff"


@pytest.mark.parametrize("path", [b"", b"/nonexistent", b":", b"/dev/null"])
def test_not_found(path):
    with pytest.raises(CommandFailed) as caught:
        execute(["no-such-command"], {b"PATH": path})
    assert caught.value.args == (
        "not-found",
        'exec: "no-such-command": executable file not found in $PATH',
        errno.ENOENT,
    )


def test_empty_name_is_not_found():
    with pytest.raises(CommandFailed, match="not found"):
        execute([""], {b"PATH": b"/bin"})


def test_missing_and_unexecutable_paths(tmp_path):
    with pytest.raises(CommandFailed) as caught:
        execute(["/no/such"], {})
    assert caught.value.args[:2] == (
        "not-found",
        'exec: "/no/such": stat /no/such: no such file or directory',
    )
    (tmp_path / "plain").touch()
    for name, words in ((tmp_path / "plain", "permission denied"), (tmp_path, "is a directory")):
        with pytest.raises(CommandFailed, match=words) as caught:
            execute([str(name)], {})
        assert caught.value.args[0] == "not-executable"


def test_long_arguments():
    failure = _explain("sh", "/bin/sh", OSError(errno.E2BIG, "Argument list too long"))
    assert failure.args[:2] == ("not-executable", 'exec: "sh": argument list too long')
