"""Records as HTML for notebooks: plain markup, no script, every text escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import Any

from mlobs.names import SYSTEM_PREFIX
from mlobs.text import param_text, shortened

_MOST_ROWS = 30  # of a table in a notebook; the record has all
_MOST_CHARACTERS = 200
_NOT_SHOWN = (*range(9), 11, 12, *range(14, 32), 127)  # HTML allows no control characters
_VISIBLE = dict.fromkeys(_NOT_SHOWN, "\ufffd")
_COLOURS = {"FINISHED": "#1a7f37", "RUNNING": "#0969da", "FAILED": "#cf222e", "CRASHED": "#cf222e"}


def escaped(value: Any) -> str:
    """Text for the inside of an element or a quoted attribute; what HTML cannot hold becomes visible.

    A lone surrogate reads as its escape, a control character as U+FFFD.
    """
    readable = str(value).encode("utf-8", "backslashreplace").decode()
    return html.escape(readable.translate(_VISIBLE), quote=True)


def number(value: float) -> str:
    """A value in six significant digits, with a true minus sign."""
    return f"{value:.6g}".replace("-", "\u2212")


def run_html(
    name: str, run_id: str, status: str, facts: Iterable[str], columns: Mapping[str, Mapping[str, Any]]
) -> str:
    """A run in short: its status and facts in a line, and its params, metrics and tags, a table each."""
    tables = "".join(table_html(title, rows) for title, rows in columns.items())
    colour = _COLOURS.get(status, "#9a6700")
    line = ", ".join(escaped(one) for one in facts if one)
    return (
        f"<div><p><strong>{escaped(name)}</strong> <code>{escaped(run_id)}</code><br>"
        f'<span style="color:{colour}">{escaped(status)}</span>, {line}</p>'
        f'<div style="display:flex;flex-wrap:wrap;gap:0 2em;align-items:flex-start">{tables}</div></div>'
    )


def table_html(title: str, rows: Mapping[str, Any]) -> str:
    """Names and values under a title, without the machine's load; "" if there are none."""
    rows = {name: value for name, value in rows.items() if not name.startswith(SYSTEM_PREFIX)}
    if not rows:
        return ""
    lines = [
        f'<tr><th scope="row" style="text-align:left;font-weight:normal">{escaped(name)}</th>'
        f'<td style="text-align:right">{escaped(_cell(value))}</td></tr>'
        for name, value in list(rows.items())[:_MOST_ROWS]
    ]
    more = f"<caption>{len(rows) - _MOST_ROWS} more</caption>" if len(rows) > _MOST_ROWS else ""
    return (
        f'<table>{more}<thead><tr><th colspan="2" style="text-align:left">{escaped(title)}</th></tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return number(value)
    return shortened(param_text(value), _MOST_CHARACTERS, "the record")


def sections_html(title: str, sections: Mapping[str, Iterable[str]]) -> str:
    """Lists of lines, each under its name and folded away; what is empty is named at the end."""
    parts = [f"<p><strong>{escaped(title)}</strong></p>"]
    same = []
    for name, lines in sections.items():
        found = list(lines)
        if not found:
            same.append(name)
            continue
        body = "\n".join(map(escaped, found))
        parts.append(
            f"<details><summary>{escaped(name)}: {len(found):,} line{'s' * (len(found) != 1)}</summary>"
            f"<pre>{body}</pre></details>"
        )
    if same:
        parts.append(f"<p>no difference: {escaped(', '.join(same))}</p>")
    return "".join(parts)
