"""What differs between runs, as tables and folded diffs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from mlobs.read.html import escaped, shortened
from mlobs.read.record import RunRecord
from mlobs.reporting.differences import MOST_RUNS, PARTS, Difference
from mlobs.reporting.markup import table
from mlobs.reporting.table import swatch, varying_params
from mlobs.text import param_text

_MOST_LINES = 400  # of a diff in the page; `mlobs diff` prints all
_MOST_CHARACTERS = 400
_KINDS = {"+": "ins", "-": "del", "@": "at"}
_ABSENT = "\u2013"


def comparison_html(records: Sequence[RunRecord], found: Sequence[Difference]) -> str:
    """The params that vary, and each run beside the first; "" of a single run."""
    if len(records) == 1:
        return ""
    first = escaped(records[0].name or records[0].run_id)
    note = f"Each run beside the first one, <strong>{first}</strong>."
    if len(records) > MOST_RUNS + 1:
        note += f" The code and environment of the first {MOST_RUNS + 1} runs were compared."
    rows = "".join(_row(records, one) for one in found)
    return (
        f'{_params(records)}<h3>Code, data, environment</h3><p class="note">{note}</p>'
        f"{table('Differences', ('run', *PARTS), rows)}"
        f"{''.join(_details(records, found))}"
    )


def _params(records: Sequence[RunRecord]) -> str:
    """The params that vary, a row each; the values of all runs that have the same stand together."""
    rows = []
    for name in varying_params(records):
        values: dict[str, list[int]] = {}
        for at, record in enumerate(records):
            shown = (
                shortened(param_text(record.params[name]), 120, "the run")
                if name in record.params
                else _ABSENT
            )
            values.setdefault(shown, []).append(at)
        cells = "".join(f"<li>{_value(value, runs)}</li>" for value, runs in values.items())
        rows.append(f'<tr><th scope="row">{escaped(name)}</th><td><ul class="values">{cells}</ul></td></tr>')
    if not rows:
        return '<h3>Params</h3><p class="note">All runs have the same params.</p>'
    return (
        "<h3>Params</h3>"
        f"{table('Params that differ', ('param', 'values, and the runs that have them'), ''.join(rows))}"
    )


def _value(value: str, runs: Sequence[int]) -> str:
    shown = "".join(swatch(at) for at in runs[:6])
    return f"<code>{escaped(value)}</code> {shown}{f' +{len(runs) - 6}' if len(runs) > 6 else ''}"  # noqa: PLR2004


def _row(records: Sequence[RunRecord], one: Difference) -> str:
    record = records[one.run]
    cells = "".join(f"<td>{_count(part, one)}</td>" for part in PARTS)
    return f'<tr><th scope="row">{swatch(one.run)}{escaped(record.name or record.run_id)}</th>{cells}</tr>'


def _count(part: str, one: Difference) -> str:
    if part in one.lines:
        lines = len(one.lines[part])
        return f'<a href="#diff-{one.run}">{lines:,} line{"s" * (lines != 1)}</a>'
    captured = {"start": "entry"}.get(part, part)
    if any(missing.startswith(f"{captured}:") for missing in one.not_captured):
        return '<span class="none">not captured</span>'
    return '<span class="none">same</span>'


def _details(records: Sequence[RunRecord], found: Sequence[Difference]) -> Iterator[str]:
    for one in found:
        if not one.lines:
            continue
        record = records[one.run]
        parts = "".join(_part(part, lines) for part, lines in one.lines.items())
        missing = (
            f'<p class="note">{"; ".join(map(escaped, one.not_captured))}</p>' if one.not_captured else ""
        )
        yield (
            f'<details class="run" id="diff-{one.run}"><summary>{swatch(one.run)}'
            f"<span>{escaped(record.name or record.run_id)}</span>"
            f'<span class="none">{", ".join(one.lines)}</span></summary><div>{parts}{missing}</div></details>'
        )


def _part(part: str, lines: Sequence[str]) -> str:
    shown = [shortened(line, _MOST_CHARACTERS, "mlobs diff") for line in lines[:_MOST_LINES]]
    more = f"\n\u2026 {len(lines) - _MOST_LINES:,} more lines: mlobs diff" if len(lines) > _MOST_LINES else ""
    body = "\n".join(_marked(shown) if part == "code" else map(escaped, shown))
    pre = f'<pre tabindex="0" role="region" aria-label="{part}">{body}{more}</pre>'
    return f"<section><h4>{part}</h4>{pre}</section>"


def _marked(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        kind = _KINDS.get(line[:1])
        yield f'<span class="{kind}">{escaped(line)}</span>' if kind else escaped(line)
