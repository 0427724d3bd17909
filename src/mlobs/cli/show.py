"""`mlobs show`: all that is known of one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import typer
from msgspec import structs

from mlobs.cli.columns import FACTS
from mlobs.cli.options import CsvOption, JsonOption, RunArgument, StoreOption
from mlobs.cli.output import duration, iso, moment, number, print_csv, print_json, print_table, print_title
from mlobs.cli.runs import document
from mlobs.cli.snapshots import summary
from mlobs.delivery.report import BackendReport, report
from mlobs.delivery.state import States, Vitals
from mlobs.names import SYSTEM_PREFIX
from mlobs.read.artifact import StoredArtifact
from mlobs.read.points import Summary
from mlobs.read.record import RunRecord, load_run
from mlobs.repro.whole_run import is_being_captured
from mlobs.text import param_text, printable, shortened, size

MOST_CHARACTERS = 200  # of a value in a table for people; --json has all of it


def show(
    run: RunArgument,
    *,
    store: StoreOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show all of one run.

    Facts, params, metrics, tags, artifacts, what each backend has, and what is damaged.

    \b
    mlobs show latest
    mlobs show 20240131-1200
    mlobs show latest --json | jq .metrics.loss.last

    --csv has the facts, params, last metrics and tags, a row each.
    Exits with 0 also if the run failed or waits for delivery: `mlobs sync` and `mlobs doctor` judge.
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    record = load_run(run, store=store)
    if as_csv:
        print_csv(["group", "name", "value"], _rows(record))
        return
    reports = report(record.folder)
    if as_json:
        print_json(_document(record, reports))
        return
    _print_facts(record)
    _print_pairs("params", record.params)
    _print_metrics(record)
    _print_pairs("tags", record.tags)
    _print_artifacts(record)
    _print_datasets(record)
    _print_models(record)
    _print_snapshot(record)
    _print_unknown(record)
    print_delivery(record.run_id, reports)
    _print_senders(record)
    _print_damage(record)


def _rows(record: RunRecord) -> list[list[Any]]:
    groups = {
        "run": {name: getattr(record, name) for name in FACTS},
        "params": record.params,
        "metrics": record.last_metrics,
        "tags": record.tags,
    }
    return [[group, name, value] for group, values in groups.items() for name, value in values.items()]


def print_delivery(run_id: str, reports: Mapping[str, BackendReport]) -> None:
    """Print what each backend has of a run."""
    if not reports:
        return
    print_title(f"delivery of {run_id}")
    headings = ("backend", "delivered", "lowered", "skipped", "rejected", "pending", "lane", "reference")
    rows = [
        [
            name,
            *(f"{getattr(one, count):,}" for count in headings[1:6]),
            one.state if one.pending else "",
            one.url or one.vendor_id or "",
        ]
        for name, one in reports.items()
    ]
    print_table(headings, rows, right=headings[1:6])
    for name, one in reports.items():
        for line in (*one.reasons, *([f"{one.state}: {one.trouble}"] if one.trouble and one.pending else [])):
            typer.echo(f"  {name}: {printable(line)}")


def _print_senders(record: RunRecord) -> None:
    """Print what delivering has cost this machine; a sender may have served other runs too."""
    for one in _senders(record):
        peak = size(one.peak_bytes)
        typer.echo(f"sender: {one.cpu_s:.1f} s of CPU, {peak} of memory at most, niceness {one.niceness}")


def _senders(record: RunRecord) -> list[Vitals]:
    return list(States(record.folder.delivery).refresh().vitals.values())


def delivery_document(reports: Mapping[str, BackendReport]) -> dict[str, Any]:
    """Reports as JSON has them."""
    return {
        name: {key: value for key, value in asdict(one).items() if key != "backend"}
        for name, one in reports.items()
    }


def _document(record: RunRecord, reports: Mapping[str, BackendReport]) -> dict[str, Any]:
    start, end = record.latest, record.end
    return document(record) | {
        "attempt": start.attempt if start else None,
        "resumed_from": start.resumed_from if start else None,
        "rank": start.rank if start else None,
        "world_size": start.world_size if start else None,
        "host": start.process.host if start else None,
        "pid": start.process.pid if start else None,
        "mlobs_version": start.mlobs_version if start else None,
        "python_version": start.python_version if start else None,
        "argv": start.argv if start else None,
        "traceback": end.traceback if end else None,
        "exit_code": end.exit_code if end else None,
        "unrecorded": end.unrecorded if end else 0,
        "metrics": {name: structs.asdict(one) for name, one in record.points.summaries().items()},
        "artifacts": [_artifact(one) for one in record.artifacts],
        "datasets": [
            {
                "name": one.name,
                "version": one.version,
                "fingerprint": one.fingerprint,
                "strength": one.strength,
                "context": one.context,
            }
            for one in record.datasets
        ],
        "models": [
            {"name": one.name, "step": one.step, "fingerprint": one.fingerprint, "leaves": one.leaves}
            for one in record.models
        ],
        "snapshot": {
            part: {"facts": one.facts, "missing": one.missing, "file": record.snapshot_file(part)}
            for part, one in record.snapshots.items()
        },
        "unknown": [{"kind": one.kind, "fields": one.fields} for one in record.unknown],
        "delivery": delivery_document(reports),
        "senders": [structs.asdict(one) for one in _senders(record)],
        "damage": [asdict(one) for one in record.damage],
    }


def _artifact(one: StoredArtifact) -> dict[str, Any]:
    return {
        "path": one.path,
        "role": one.role,
        "media_type": one.media_type,
        "size_bytes": one.size_bytes,
        "step": one.step,
        "at": iso(one.at),
        "file": one.file,
    }


def _print_facts(record: RunRecord) -> None:
    start, end = record.latest, record.end
    facts = {
        "run": record.run_id,
        "name": record.name,
        "experiment": record.experiment,
        "status": record.status,
        "reason": record.reason,
        "started": f"{moment(record.started)} UTC" if record.started else "",
        "ended": f"{moment(record.ended)} UTC" if record.ended else "",
        "took": duration(record.duration_s),
        "parent": record.parent_run_id or "",
        "attempt": str(start.attempt) if start and start.attempt > 1 else "",
        "resumed from": (start.resumed_from or "") if start else "",
        "process": f"pid {start.process.pid} on {start.process.host}" if start and start.process.host else "",
        "command": " ".join(start.argv) if start else "",
        "unrecorded": f"{end.unrecorded:,} calls could not be kept" if end and end.unrecorded else "",
        "folder": str(record.folder.path),
    }
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        if value:
            typer.echo(f"{name.ljust(width)}  {printable(value)}")
    if end and end.traceback:
        print_title("traceback")
        typer.echo("\n".join(map(printable, end.traceback.rstrip().splitlines())))


def _print_pairs(title: str, values: Mapping[str, Any]) -> None:
    if values:
        print_title(title)
        texts = {name: param_text(value) for name, value in values.items()}
        shown = [[name, shortened(text, MOST_CHARACTERS, "--json")] for name, text in texts.items()]
        print_table(("name", "value"), shown)


def _print_metrics(record: RunRecord) -> None:
    """Print a line for each metric; the program's load, which nobody logged, in a table of its own."""
    summaries = record.points.summaries()
    of_load = {name: one for name, one in summaries.items() if name.startswith(SYSTEM_PREFIX)}
    _print_summaries("metrics", {name: one for name, one in summaries.items() if name not in of_load})
    _print_summaries("system metrics", of_load)


def _print_summaries(title: str, summaries: Mapping[str, Summary]) -> None:
    rows = [
        [name, number(one.last), number(one.min), number(one.max), f"{one.points:,}", str(one.last_step)]
        for name, one in summaries.items()
    ]
    if rows:
        print_title(title)
        headings = ("name", "last", "min", "max", "points", "last step")
        print_table(headings, rows, right=headings[1:])


def _print_artifacts(record: RunRecord) -> None:
    rows = [
        [one.path, one.role, size(one.size_bytes), "" if one.step is None else str(one.step), one.media_type]
        for one in record.artifacts
    ]
    if rows:
        print_title("artifacts")
        print_table(("path", "role", "size", "step", "media type"), rows, right=("size", "step"))


def _print_datasets(record: RunRecord) -> None:
    rows = [
        [one.name, one.context, one.version or "", one.strength, one.fingerprint] for one in record.datasets
    ]
    if rows:
        print_title("datasets")
        print_table(("name", "context", "version", "strength", "fingerprint"), rows)


def _print_models(record: RunRecord) -> None:
    rows = [
        [one.name, "" if one.step is None else str(one.step), f"{len(one.leaves):,}", one.fingerprint]
        for one in record.models
    ]
    if rows:
        print_title("models")
        print_table(("name", "step", "leaves", "fingerprint"), rows, right=("step", "leaves"))


def _print_snapshot(record: RunRecord) -> None:
    rows = [
        [
            part,
            f"missing: {one.missing}" if one.missing else shortened(summary(one), MOST_CHARACTERS, "--json"),
        ]
        for part, one in record.snapshots.items()
    ]
    if is_being_captured(record):
        rows.append(["more", "the sender is still at it"])
    if rows:
        print_title("snapshot")
        print_table(("part", "what"), rows)


def _print_unknown(record: RunRecord) -> None:
    if record.unknown:
        print_title("events of a newer mlobs - type: pip install -U mlobs")
        print_table(("kind", "fields"), [[one.kind, param_text(one.fields)] for one in record.unknown])


def _print_damage(record: RunRecord) -> None:
    if record.damage:
        print_title("damage (everything around it was read)")
        rows = [[one.file.name, str(one.offset), str(one.size_bytes), one.what] for one in record.damage]
        print_table(("file", "offset", "bytes", "what"), rows, right=("offset", "bytes"))
