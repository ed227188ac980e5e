"""What is written into resctrl: a folder stands in its place, which says nothing of the kernel."""

from pathlib import Path

import pytest

from runtime.errors import InvalidSpec
from runtime.resctrl import join, rdt_plan, remove
from runtime.spec import IntelRdt

PID = 4711


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return the stand-in, with one group."""
    for name in ("", "there"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "tasks").touch()
        (tmp_path / name / "schemata").write_text("    L3:0=f\n    MB:0=100\n")
    return tmp_path


def planned(tree: Path, wanted: IntelRdt):
    return rdt_plan(
        wanted, f"1 0 0:5 / /proc rw - proc x rw\n2 0 0:6 / {tree} rw - resctrl r rw", "c1"
    )


def test_a_group_that_is_there_is_joined(tree: Path) -> None:
    for wanted in ({"closID": "there"}, {"closID": "there", "l3CacheSchema": "L3:0=f"}):
        plan = planned(tree, wanted)  # type: ignore[arg-type]
        assert plan["made"] == []
        join(plan, PID)
        assert (tree / "there/tasks").read_text() == f"{PID}\n"
    join(planned(tree, {"closID": "/"}), PID)
    assert (tree / "tasks").read_text() == f"{PID}\n"


def test_a_group_that_is_made_bears_the_containers_name(tree: Path) -> None:
    plan = planned(tree, {"l3CacheSchema": "L3:0=3", "schemata": ["MB:0=50"], "enableCMT": True})
    assert plan["group"] == str(tree / "c1")
    assert plan["monitor"] == str(tree / "c1/mon_groups/c1")
    assert plan["made"] == [plan["group"], plan["monitor"]]
    assert plan["schemata"] == ["MB:0=50", "L3:0=3"]


def test_what_was_made_is_removed(tree: Path) -> None:
    (tree / "mine/inner").mkdir(parents=True)
    remove([str(tree / "mine"), str(tree / "mine/inner"), str(tree / "mine/never")])
    assert not (tree / "mine").exists()


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"closID": "nowhere"}, "linux.intelRdt.closID: there is no "),
        (
            {"closID": "there", "memBwSchema": "MB:0=10"},
            "is there with other schemata than MB:0=10",
        ),
    ],
)
def test_what_is_no_group(tree: Path, wanted: IntelRdt, said: str) -> None:
    with pytest.raises(InvalidSpec, match=said):
        planned(tree, wanted)
