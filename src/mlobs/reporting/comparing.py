"""What differs between runs, as tables and folded diffs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from mlobs.read.html import escaped, number
from mlobs.read.record import RunRecord
from mlobs.reporting.differences import MOST_RUNS, PARTS, Difference
from mlobs.reporting.markup import table
from mlobs.reporting.table import swatch, varying_params
from mlobs.text import param_text, shortened

_MOST_LINES = 400  # of a diff in the page; `mlobs diff` prints all
_MOST_CHARACTERS = 400
_MOST_OF_A_VALUE = 120
_MOST_VALUES, _MOST_SWATCHES = 16, 6  # the table of runs has every value
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
    """The params that vary, a row each; runs with the same value stand together."""
    rows = "".join(
        f'<tr><th scope="row">{escaped(name)}</th>'
        f'<td><ul class="values">{_values(records, name)}</ul></td></tr>'
        for name in varying_params(records)
    )
    if not rows:
        return '<h3>Params</h3><p class="note">All runs have the same params.</p>'
    heads = ("param", "values, and the runs that have them")
    return f"<h3>Params</h3>{table('Params that differ', heads, rows)}"


def _values(records: Sequence[RunRecord], name: str) -> str:
    runs: dict[str, list[int]] = {}
    short: dict[str, str] = {}
    for at, record in enumerate(records):
        value = record.params.get(name)
        text = param_text(value) if name in record.params else _ABSENT
        runs.setdefault(text, []).append(at)
        short[text] = (
            number(value) if isinstance(value, float) else shortened(text, _MOST_OF_A_VALUE, "the run")
        )
    if len(set(short.values())) < len(short):  # six digits do not tell them apart
        short = {text: shortened(text, _MOST_OF_A_VALUE, "the run") for text in short}
    items = [f"<li>{_value(short[text], users)}</li>" for text, users in runs.items()]
    more = f'<li class="none">and {len(items) - _MOST_VALUES} more</li>' if len(items) > _MOST_VALUES else ""
    return f"{''.join(items[:_MOST_VALUES])}{more}"


def _value(value: str, runs: Sequence[int]) -> str:
    shown = "".join(swatch(at) for at in runs[:_MOST_SWATCHES])
    more = f" +{len(runs) - _MOST_SWATCHES}" if len(runs) > _MOST_SWATCHES else ""
    return f"<code>{escaped(value)}</code> {shown}{more}"


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
        is_head = line.startswith(("--- ", "+++ "))
        kind = "at" if is_head else _KINDS.get(line[:1])
        yield f'<span class="{kind}">{escaped(line)}</span>' if kind else escaped(line)
