"""Records as HTML for notebooks: plain markup, no script, every text escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mlobs import text
from mlobs.names import SYSTEM_PREFIX
from mlobs.text import param_text, preview

if TYPE_CHECKING:
    from mlobs.read.record import RunRecord

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


def record_html(record: RunRecord) -> str:
    """A run in short: what became of it, params, last metrics and tags."""
    columns = {
        "params": {
            name: preview(param_text(one), _MOST_CHARACTERS, "params") for name, one in record.params.items()
        },
        "metrics": {
            name: number(value)
            for name, value in record.last_metrics.items()
            if not name.startswith(SYSTEM_PREFIX)
        },
        "tags": record.tags,
    }
    tables = "".join(table_html(title, rows) for title, rows in columns.items())
    return (
        f"<div><p><strong>{escaped(record.name)}</strong> <code>{escaped(record.run_id)}</code><br>"
        f"{_facts(record)}</p>"
        f'<div style="display:flex;flex-wrap:wrap;gap:0 2em;align-items:flex-start">{tables}</div></div>'
    )


def _facts(record: RunRecord) -> str:
    colour = _COLOURS.get(record.status, "#9a6700")
    facts = [f'<span style="color:{colour}">{escaped(record.status)}</span>']
    if record.started and record.ended:
        facts[0] += f" in {text.duration((record.ended - record.started).total_seconds())}"
    if record.started:
        facts.append(f"{record.started:%Y-%m-%d %H:%M:%S} UTC")
    facts.append(f"experiment {escaped(record.experiment)}")
    reason = f"<br>{escaped(record.reason)}" if record.reason else ""
    return f"{', '.join(facts)}{reason}"


def table_html(title: str, rows: Mapping[str, Any]) -> str:
    """Names and values under a title; "" if there are none."""
    if not rows:
        return ""
    lines = [
        f'<tr><th scope="row" style="text-align:left;font-weight:normal">{escaped(name)}</th>'
        f'<td style="text-align:right">{escaped(value)}</td></tr>'
        for name, value in list(rows.items())[:_MOST_ROWS]
    ]
    more = f"<caption>{len(rows) - _MOST_ROWS} more</caption>" if len(rows) > _MOST_ROWS else ""
    return (
        f'<table>{more}<thead><tr><th colspan="2" style="text-align:left">{escaped(title)}</th></tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


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
