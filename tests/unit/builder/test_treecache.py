import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from builder.treecache import Parse, parse_cached
from grammar import ast
from grammar.errors import DockerfileSyntaxError
from grammar.parse import parse

TEXT = b"FROM scratch\nENV A=$B\n"


def never() -> Parse:
    raise AssertionError("the parser was loaded")


def test_an_unchanged_file_is_not_parsed_again(tmp_path: Path) -> None:
    first = parse_cached(TEXT, "Dockerfile", str(tmp_path), lambda: parse)
    assert parse_cached(TEXT, "Dockerfile", str(tmp_path), never) == first


@pytest.mark.parametrize(("data", "name"), [(TEXT + b"\n", "Dockerfile"), (TEXT, "Other")])
def test_another_text_or_name_is(tmp_path: Path, data: bytes, name: str) -> None:
    parse_cached(TEXT, "Dockerfile", str(tmp_path), lambda: parse)
    with pytest.raises(AssertionError, match="was loaded"):
        parse_cached(data, name, str(tmp_path), never)


COPIED = ("values", "store", "grammar", "builder")
PARSE = """
import sys
from builder.treecache import parse_cached
from grammar.parse import parse
parse_cached(b"FROM scratch\\n", "Dockerfile", sys.argv[1], lambda: print("parsed") or parse)
"""


def test_a_tree_of_another_program_is_not_taken(tmp_path: Path, project: Path) -> None:
    for package in COPIED:
        shutil.copytree(project / package, tmp_path / package)

    def output() -> str:
        command = [sys.executable, "-c", PARSE, tmp_path / "trees"]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
        ).stdout

    assert output() == "parsed\n"
    assert output() == ""
    os.utime(tmp_path / "grammar/leaves.py", (1, 1))
    assert output() == "parsed\n"


def test_a_damaged_cache_is_ignored(tmp_path: Path) -> None:
    first = parse_cached(TEXT, "Dockerfile", str(tmp_path), lambda: parse)
    (stored,) = tmp_path.iterdir()
    for damage in (b"", b"garbage", stored.read_bytes()[:-5]):
        stored.write_bytes(damage)
        assert parse_cached(TEXT, "Dockerfile", str(tmp_path), lambda: parse) == first


def test_an_error_is_not_remembered(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(DockerfileSyntaxError):
            parse_cached(b"FROM scratch\nRUM x\n", "Dockerfile", str(tmp_path), lambda: parse)
    assert list(tmp_path.iterdir()) == []


def test_old_trees_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builder.treecache._KEPT", 3)
    tree = ast.Dockerfile("Dockerfile", ast.Directives(), ())
    for number in range(6):
        parse_cached(b"%d" % number, "Dockerfile", str(tmp_path), lambda: lambda *_: tree)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_long_file_is_not_parsed_again_either(tmp_path: Path) -> None:
    heredoc = b"RUN <<EOF\n" + b"x" * 99 * 101_000 + b"\nEOF\n"
    for text in (b"FROM scratch\n" + b"ENV A=$B\n" * 10_000, b"FROM scratch\n" + heredoc):
        first = parse_cached(text, "Dockerfile", str(tmp_path), lambda: parse)
        assert parse_cached(text, "Dockerfile", str(tmp_path), never) == first


def test_the_oldest_go_when_there_are_many_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builder.treecache._KEPT_BYTES", 50_000)
    for number in range(9):
        text = f"FROM scratch\nRUN {number}{'x' * 9_000}\n".encode()
        parse_cached(text, "Dockerfile", str(tmp_path), lambda: parse)
        assert parse_cached(text, "Dockerfile", str(tmp_path), never)
    assert 0 < sum(path.stat().st_size for path in tmp_path.iterdir()) <= 50_000


def test_a_known_file_loads_no_lark(tmp_path: Path) -> None:
    parse_cached(TEXT, "Dockerfile", str(tmp_path), lambda: parse)
    code = (
        "import sys\n"
        "from builder.treecache import parse_cached\n"
        f"assert parse_cached({TEXT!r}, 'Dockerfile', {str(tmp_path)!r}, None).instructions\n"
        "assert 'lark' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
