"""The report of a build, from rows of a journal."""

import io
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pybuild.engine.journal import JournalStep, show
from pybuild.report.longest import longest_path
from pybuild.report.markup import escaped, log_html
from pybuild.report.page import write
from store.buildjournal import BuildRow, StepRow
from store.root import Store

EVIL = "<script>document.title='pwned'</script></pre>\"'&"


class Page(HTMLParser):
    """The elements of a page, and the text in each `<pre>`."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.logs: list[str] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag
        if tag == "pre":
            self.logs.append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "pre":
            self.logs[-1] += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(tmp_path / "store") as opened:
        yield opened


def add_step(store: Store, number: int, seconds: float, *inputs: int, name: str = "RUN x") -> None:
    details = {"name": name, "inputs": list(inputs), "bases": [] if inputs else ["base:1"]}
    started = 10**18 + number
    path = f"logs/b/{number}.log"
    store.journal.add_step(
        StepRow(
            "b",
            number,
            title=name,
            stage=EVIL,
            started_ns=started,
            ended_ns=started + int(seconds * 1e9),
            log_path=path,
            details={**details, "why": [{"kind": "first", "text": name}]},
        )
    )
    Path(store.root, "logs/b").mkdir(exist_ok=True)
    Path(store.root, path).write_bytes(f"{number}: {EVIL}\n".encode() + b"\xff\x00\n")


def page_of(store: Store) -> str:
    out = io.BytesIO()
    write(store, show(store), out)
    return out.getvalue().decode()


def test_nothing_of_a_build_becomes_markup_and_nothing_is_loaded(store: Store) -> None:
    details = {"tags": [EVIL], "target": EVIL}
    row = BuildRow("b", 10**18, EVIL, EVIL, "failed", 2 * 10**18, "", EVIL, details)
    store.journal.begin_build(row)
    add_step(store, 1, 1.0, name=f"[{EVIL} 1/2] RUN {EVIL}")
    add_step(store, 2, 1.0, 1, name=EVIL)
    text = page_of(store)
    page = Page(text)
    assert page.count("script") == 1
    assert text.count("pwned") > 10
    assert "document.title='pwned'" not in text
    assert page.logs == [EVIL, f"\n1: {EVIL}\n�␀\n", f"\n2: {EVIL}\n�␀\n"]
    for tag, attributes in page.elements:
        assert not {"src", "srcset", "onclick", "onload", "action"} & set(attributes), tag
        link = attributes.get("href") or "#"
        assert link.startswith(("#step-", "data:,")) or link == "#"
    assert "url(" not in text
    assert "@import" not in text
    assert page.count("details") == 2


def test_a_build_of_no_steps(store: Store) -> None:
    store.journal.begin_build(BuildRow("b", 10**18, "D", status="failed", error="no such file"))
    page = Page(page_of(store))
    assert page.logs == ["no such file"]
    assert page.count("svg") == page.count("details") == 0


def test_a_log_that_is_gone_is_said_to_be(store: Store) -> None:
    store.journal.begin_build(BuildRow("b", 10**18, "D", status="done"))
    add_step(store, 1, 1.0)
    Path(store.root, "logs/b/1.log").unlink()
    assert "Its log was pruned." in page_of(store)


def test_policies_and_what_came_of_them(store: Store) -> None:
    store.journal.begin_build(BuildRow("b", 10**18, "D", status="failed"))
    details = {
        "policies": f"retry=2 memory=8m {EVIL}",
        "tries": 3,
        "failure": "exceeded its memory limit of 8 MiB (peak 8 MiB)",
    }
    store.journal.add_step(
        StepRow("b", 1, "RUN x", status="failed", exit_code=137, details=details)
    )
    text = page_of(store)
    assert "<dt>Policies</dt><dd>retry=2 memory=8m &lt;" in text
    assert "<dt>Tries</dt><dd>3</dd>" in text
    assert "<dt>Failed</dt><dd>it exceeded its memory limit of 8 MiB (peak 8 MiB)</dd>" in text
    assert "Exit code" not in text


def test_the_longest_path(store: Store) -> None:
    store.journal.begin_build(BuildRow("b", 10**18, "D", status="done"))
    add_step(store, 1, 1.0)
    add_step(store, 2, 5.0)
    add_step(store, 3, 3.0, 1)
    add_step(store, 4, 0.5, 2)
    add_step(store, 5, 0.1, 3, 4)
    steps: tuple[JournalStep, ...] = show(store).steps
    assert longest_path(steps) == (2, 4, 5)
    assert longest_path(()) == ()


def test_text_without_what_terminals_obey() -> None:
    data = b"\x1b[31mred\x1b[0m\r\n1%\r2%\n\x1b]0;title\x07\x08<\n" + b"x" * 100_000
    text = "".join(log_html(io.BytesIO(data)))
    assert text == "red\n1%\n2%\n␈&lt;\n" + "x" * 100_000
    assert escaped("a\"b'<>&\u202e") == "a&quot;b&#x27;&lt;&gt;&amp;�"
