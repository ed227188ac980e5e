"""`builds report`: the page in a browser."""

import struct
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

DOCKERFILE = """\
FROM base:1 AS one
RUN echo "<script>document.title = 'pwned'</script>"; echo "</pre><b>bold"
FROM base:1 AS two
RUN dd if=/dev/zero of=/two bs=1k count=500 2>/dev/null
FROM one
COPY --from=two /two /
RUN seq 1 3000; rm /two
"""


class Dom(HTMLParser):
    """What a test asks a page for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {"title": [], "pre": []}
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag
        if tag in self.texts:
            self.texts[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in self.texts:
            self.texts[self._open][-1] += data

    def of_class(self, *names: str) -> list[dict[str, str | None]]:
        return [a for _, a in self.elements if {*names} <= {*(a.get("class") or "").split()}]


@pytest.fixture
def browser(tool, tmp_path: Path) -> Callable[..., tuple[str, list[str]]]:
    """Return what opens a page in a browser and gives its DOM and what its console said."""
    chromium = tool("chromium")

    def browse(address: str, *options: str) -> tuple[str, list[str]]:
        done = subprocess.run(
            [
                *(chromium, "--no-sandbox", "--headless=new", "--disable-gpu", "--dump-dom"),
                *(f"--user-data-dir={tmp_path}/browser", "--enable-logging=stderr", *options),
                address,
            ],
            capture_output=True,
            timeout=120,
            check=True,
        )
        said = [line for line in done.stderr.decode().splitlines() if ":CONSOLE" in line]
        return done.stdout.decode(), said

    return browse


@pytest.fixture
def report(pybuild, busybox_image, context: Path, tmp_path: Path) -> Path:
    """Return the report of a build."""
    pybuild("tag", busybox_image, "base:1")
    (context / "Dockerfile").write_text(DOCKERFILE)
    pybuild("build", "-q", "-t", "x", context)
    pybuild("builds", "report", "-o", tmp_path / "report.html")
    return tmp_path / "report.html"


def test_the_page_in_a_browser(report: Path, browser) -> None:
    text, said = browser(report.as_uri())
    assert said == []
    dom = Dom(text)
    assert dom.texts["title"][0].startswith("x · build ")
    assert len(dom.of_class("step")) == len(dom.of_class("lane")) == 4
    assert len(dom.of_class("node")) == 5  # the steps and the image
    assert len(dom.of_class("edge")) == 5
    assert len(dom.of_class("layer")) == 4
    assert [each["style"] == "width:0.00%" for each in dom.of_class("hidden")] == [
        *(True, True, False, True)  # /two, which the last layer deletes
    ]
    logs = dom.texts["pre"]
    assert sorted(logs, key=len) == [
        "<script>document.title = 'pwned'</script>\n</pre><b>bold\n",
        "".join(f"{number}\n" for number in range(1, 3001)),
    ]
    # Its own script ran, and nobody else's.
    (button,) = (attributes for tag, attributes in dom.elements if attributes.get("id") == "all")
    assert "hidden" not in button
    assert sum(tag == "script" for tag, _ in dom.elements) == 1


def test_a_cached_step_has_the_log_of_the_build_that_ran_it(
    pybuild, report: Path, context: Path, browser
) -> None:
    ran = pybuild("builds", "ls", "-q").stdout.strip()
    pybuild("build", "-q", "-t", "x", context)
    pybuild("builds", "report", "-o", report)
    text, said = browser(report.as_uri())
    assert said == []
    assert len(Dom(text).texts["pre"]) == 2
    assert text.count(f"Its log in build {ran}, which ran it:") == 2
    pybuild("builds", "rm", ran)
    pybuild("builds", "report", "-o", report)
    assert Dom(browser(report.as_uri())[0]).texts["pre"] == []


def test_a_link_opens_its_step(report: Path, browser) -> None:
    step = str(Dom(browser(report.as_uri())[0]).of_class("node")[1]["href"])
    text, _ = browser(report.as_uri() + step)
    opened = [each["id"] for each in Dom(text).of_class("step") if "open" in each]
    assert opened == [step[1:]]


def test_what_comes_from_elsewhere_would_be_seen(report: Path, browser) -> None:
    page = report.with_name("changed.html")
    for more in ("<script>document.title='pwned'</script>", "<img src='http://127.0.0.1:9/'>"):
        page.write_text(report.read_text().replace("<footer>", f"{more}<footer>"))
        text, said = browser(page.as_uri())
        assert len(said) == 1
        assert "Content Security Policy" in said[0]
        assert Dom(text).texts["title"][0].startswith("x · build ")


@pytest.mark.parametrize("width", [1400, 520])
def test_a_picture_of_it(report: Path, browser, width: int) -> None:
    picture = report.with_suffix(".png")
    browser(report.as_uri(), f"--screenshot={picture}", f"--window-size={width},900")
    head = picture.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">I", head[16:20]) == (width,)


def test_where_it_goes(pybuild, report: Path, tmp_path: Path) -> None:
    page = pybuild("builds", "report", "last", "-o", "-").stdout
    assert page.startswith("<!DOCTYPE html>")
    assert page.endswith("</html>\n")
    wrong = pybuild("builds", "report", "-o", tmp_path / "no" / "r.html", check=False)
    assert wrong.returncode == 1
    assert wrong.stderr == f"error: write {tmp_path}/no/r.html: no such file or directory\n"
    before = report.read_bytes()
    missing = pybuild("builds", "report", "nope", "-o", report, check=False)
    assert missing.stderr.startswith("error: no such build: nope\n")
    assert report.read_bytes() == before
    assert not list(tmp_path.glob(".report-*"))
    assert pybuild("builds", "report", check=False).returncode == 2
