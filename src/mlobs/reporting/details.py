"""Each run by itself: how it ended, what it was given, the end of its log, and where it was delivered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mlobs import text
from mlobs.delivery.report import COUNTS, BackendReport, report
from mlobs.names import SYSTEM_PREFIX
from mlobs.read.artifact import StoredArtifact
from mlobs.read.html import escaped, number
from mlobs.read.log_tail import LogTail
from mlobs.read.points import Summary
from mlobs.read.record import RunRecord
from mlobs.reporting.markup import table
from mlobs.reporting.table import swatch
from mlobs.text import log_line, param_text, shortened

LOG_LINES = 20
_MOST_CHARACTERS = 2_000  # of a param or a line of the log
_MOST_PAIRS = 200
_MOST_PENDING = 10_000  # counted, per backend


def details_html(records: Sequence[RunRecord], summaries: Sequence[Mapping[str, Summary]]) -> str:
    """Every run, folded away; the first one of a single run is open."""
    is_open = len(records) == 1
    both = enumerate(zip(records, summaries, strict=True))
    return "".join(_run(at, record, metrics, is_open=is_open) for at, (record, metrics) in both)


def delivery_html(records: Sequence[RunRecord]) -> str:
    """What each backend has of each run; "" if no run names a backend."""
    rows = "".join(
        _delivery(at, record, one)
        for at, record in enumerate(records)
        for one in report(record.folder, most=_MOST_PENDING).values()
    )
    if not rows:
        return ""
    return table("Delivery", ("run", "backend", *COUNTS, "state", "there"), rows)


def _delivery(at: int, record: RunRecord, one: BackendReport) -> str:
    more = "more than " if one.has_more else ""
    counts = "".join(
        f'<td class="n{" none" if not getattr(one, name) else ""}">'
        f"{more if name == 'pending' else ''}{getattr(one, name):,}</td>"
        for name in COUNTS
    )
    reasons = [*one.reasons, *([one.trouble] if one.trouble else [])]
    count = f"{len(reasons)} reason{'s' * (len(reasons) != 1)}"
    lines = "<br>".join(map(escaped, reasons))
    why = f"<details><summary>{count}</summary><small>{lines}</small></details>" if reasons else ""
    state = "complete" if one.is_settled else escaped(one.state or "pending")
    return (
        f'<tr><th scope="row">{swatch(at)}{escaped(record.name or record.run_id)}</th>'
        f"<td>{escaped(one.backend)}</td>{counts}<td>{state}{why}</td>"
        f"<td>{escaped(one.url or one.vendor_id or '')}</td></tr>"
    )


def _run(at: int, record: RunRecord, metrics: Mapping[str, Summary], *, is_open: bool) -> str:
    body = "".join(_parts(record, metrics))
    return (
        f'<details class="run" id="run-{at}"{" open" if is_open else ""}><summary>{swatch(at)}'
        f"<span>{escaped(record.name or record.run_id)}</span>"
        f'<span class="status {escaped(record.status).lower()}">{escaped(record.status)}</span></summary>'
        f"<div>{body}</div></details>"
    )


def _parts(record: RunRecord, metrics: Mapping[str, Summary]) -> Iterator[str]:
    yield _pairs("", _facts(record).items())
    yield from _pre("Traceback", record.end.traceback if record.end and record.end.traceback else "")
    params = [
        (name, shortened(param_text(one), _MOST_CHARACTERS, "the run")) for name, one in record.params.items()
    ]
    yield _pairs("Params", params)
    yield _metrics(metrics)
    yield _pairs("Tags", record.tags.items())
    yield _pairs("Datasets", [(one.name, _dataset(one)) for one in record.datasets])
    yield _pairs("Artifacts", [(one.path, _artifact(one)) for one in record.artifacts])
    tail = LogTail(record.folder).read()[-LOG_LINES:]
    lines = "\n".join(shortened(log_line(one), _MOST_CHARACTERS, "the run") for one in tail)
    yield from _pre(f"Log, the last {len(tail)} lines", lines)
    yield from _pre("Damage: what could not be read", "\n".join(map(str, record.damage)))


def _facts(record: RunRecord) -> dict[str, Any]:
    start, seconds = record.latest, record.duration_s
    facts = {
        "id": record.run_id,
        "experiment": record.experiment,
        "status": f"{record.status} (stale)" if record.is_stale else record.status,
        "reason": record.reason,
        "started": f"{record.started:%Y-%m-%d %H:%M:%S} UTC" if record.started else "",
        "took": text.duration(seconds) if seconds is not None else "",
        "host": start.process.host if start else "",
        "command": " ".join(start.argv) if start else "",
        "versions": f"mlobs {start.mlobs_version}, Python {start.python_version}" if start else "",
        "child of": record.parent_run_id or "",
    }
    return {name: value for name, value in facts.items() if value}


def _dataset(one: Any) -> str:
    facts = [
        one.context,
        f"version {one.version}" if one.version else "",
        f"{one.rows:,} rows" if one.rows else "",
    ]
    return ", ".join([*filter(None, facts), f"{one.fingerprint} ({one.strength})"])


def _artifact(one: StoredArtifact) -> str:
    step = [] if one.step is None else [f"step {one.step:,}"]
    return ", ".join([one.role, text.size(one.size_bytes), *step])


def _metrics(summaries: Mapping[str, Summary]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escaped(name)}</th><td class="n">{number(one.last)}</td>'
        f'<td class="n">{one.last_step:,}</td><td class="n">{number(one.min)}</td>'
        f'<td class="n">{number(one.max)}</td><td class="n">{one.points:,}</td></tr>'
        for name, one in summaries.items()
        if not name.startswith(SYSTEM_PREFIX)
    )
    if not rows:
        return ""
    heads = ("metric", "last", "step", "min", "max", "points")
    return f"<section><h4>Metrics</h4>{table('Metrics', heads, rows)}</section>"


def _pairs(title: str, named: Iterable[tuple[str, Any]]) -> str:
    pairs = list(named)
    if not pairs:
        return ""
    first = pairs[:_MOST_PAIRS]
    lines = "".join(f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>" for name, value in first)
    if len(first) < len(pairs):
        lines += f"<dt>and {len(pairs) - len(first):,} more</dt><dd></dd>"
    return f"<section>{f'<h4>{title}</h4>' if title else ''}<dl>{lines}</dl></section>"


def _pre(title: str, content: str) -> Iterable[str]:
    if content:
        yield (
            f'<section><h4>{escaped(title)}</h4><pre tabindex="0" role="region" '
            f'aria-label="{escaped(title)}">{escaped(content)}</pre></section>'
        )
