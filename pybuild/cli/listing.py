"""Rows in the form that `--format` asks for: a table, JSON lines, or a template.

A row is a mapping from docker's placeholder names (`ID`, `Repository`) to text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pybuild.cli.table import render

Row = Mapping[str, str]


def listing(rows: Sequence[Row], columns: Mapping[str, str], form: str | None) -> str:
    """Return the text of `rows`.

    columns: placeholder → heading of the columns shown where `form` chooses none, in order.
    form: None or `table`, `table TEMPLATE`, `json`, or a template for a line each.
    """
    if form is None or form == "table":
        return render(tuple(columns.values()), ([row[name] for name in columns] for row in rows))
    from pybuild.cli.template import Template, to_json

    if form == "json":
        return "".join(to_json(row) + "\n" for row in rows)
    if form.startswith("table "):
        template = Template(form.removeprefix("table ").strip())
        names = {name for row in rows for name in row} | set(columns)
        headings = {name: columns.get(name, name.upper()) for name in names}
        cells = [template.render(row).split("\t") for row in rows]
        return render(template.render(headings).split("\t"), cells)
    template = Template(form)
    return "".join(template.render(row) + "\n" for row in rows)
