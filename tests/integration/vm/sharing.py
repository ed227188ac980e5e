"""One boot for the tests that do not mind company: what they ask of it, and what came of it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pytest

OUTCOME = re.compile(r"(tests/\S+(?: .*?)?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)")
MARK = "inside"
PYTEST = "pytest"
# The tests first, since scripts may change the machine; each part ends with its exit status.
RUN = """\
#!/bin/sh
for part in pytest {scripts}; do
    [ -e $part ] || continue
    echo "part $part"
    ./$part
    echo "status $?"
done
"""


@dataclass(frozen=True)
class Part:
    """What a part printed, and its exit status; None when it did not end."""

    lines: tuple[str, ...] = ()
    status: int | None = None


def asked(items: Iterable[pytest.Item]) -> tuple[list[str], dict[str, str]]:
    """Return what `items` want inside: the ids of tests, and scripts by the name of their test."""
    ids: dict[str, None] = {}
    scripts = {}
    for item in items:
        mark = item.get_closest_marker(MARK)
        if mark is not None:
            ids.update(dict.fromkeys(mark.args))
            if "script" in mark.kwargs:
                scripts[item.name] = mark.kwargs["script"]
    return list(ids), scripts


def parts_of(lines: Iterable[str]) -> dict[str, Part]:
    """Return what each part printed, of all that the machine did."""
    found: dict[str, Part] = {}
    name = ""
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "part":
            name = rest
            found[name] = Part()
        elif word == "status" and name:
            found[name] = Part(found[name].lines, int(rest))
            name = ""
        elif name:
            found[name] = Part((*found[name].lines, line))
    return found


def passed(parts: Mapping[str, Part], wanted: Iterable[str]) -> set[str]:
    """Return the ids of the `wanted` tests that passed, where one may stand for a whole file.

    Any that did not, and any that did not run, fails the caller; options of pytest are no ids.
    """
    lines = parts.get(PYTEST, Part()).lines
    outcomes = dict(match.groups() for line in lines if (match := OUTCOME.match(line)))
    mine: dict[str, str] = {}
    for name in wanted:
        if not name.startswith("-"):
            beginnings = (f"{name}::", f"{name}[")
            found = {i: o for i, o in outcomes.items() if i == name or i.startswith(beginnings)}
            mine |= found or {name: "not run"}
    wrong = {name: outcome for name, outcome in mine.items() if outcome != "PASSED"}
    if wrong:
        pytest.fail("\n".join([str(wrong), *lines[-200:]]))
    return set(mine)
