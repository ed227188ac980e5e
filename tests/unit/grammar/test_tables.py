import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
from grammar import tables
from grammar.expand import expand
from grammar.parse import parse
with tables.kept_in(sys.argv[1]):
    print(parse(b'# escape=`\\nFROM x\\nENV A=`$B C=$D\\n'.replace(b'`', sys.argv[2].encode())))
    print(expand('a$D', {'D': 'd'}, sys.argv[2]).value)
"""


def run(folder: Path, escape: str) -> str:
    command = [sys.executable, "-c", SCRIPT, str(folder), escape]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_kept_tables_read_the_same_for_each_escape_character(tmp_path: Path) -> None:
    for escape in ("\\", "`"):
        made = run(tmp_path, escape)
        assert "ad" in made
        assert run(tmp_path, escape) == made
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["dockerfile.lark", "words.lark"]


def test_damaged_tables_are_made_anew(tmp_path: Path) -> None:
    made = run(tmp_path, "\\")
    for table in tmp_path.iterdir():
        table.write_bytes(table.read_bytes()[:100])
    assert run(tmp_path, "\\") == made
