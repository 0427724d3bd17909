"""The journal of format 1 opens for ever: each of its events, spelled out.

`tests/fixtures/write_format_1.py` wrote it. Nothing here is computed by the code that is tested.
"""

import math
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

import pytest
from source_tree import ROOT

import mlobs
from mlobs.backend import ALL_KINDS
from mlobs.delivery.report import BackendReport, report
from mlobs.delivery.state import States
from mlobs.events import (
    Artifact,
    BackendSpec,
    Dataset,
    Heartbeat,
    Histogram,
    Log,
    Metrics,
    ModelFingerprint,
    Params,
    Process,
    Rewind,
    RunFinished,
    RunStarted,
    Snapshot,
    Tags,
    Unknown,
    kind_of,
)
from mlobs.journal.format import Header
from mlobs.journal.reader import Reader
from mlobs.read.record import RunRecord

STORE = ROOT / "tests" / "fixtures" / "format-1"
RUN_ID = "20260102-030405-000006-abcdef"
OPENER, RANK_1 = "trainer-4242-0a0b0c0d", "trainer-4243-1a1b1c1d"
TRAINER = Process(host="trainer", pid=4242, boot_id="0f0f-boot/4026531836", started=123456)

EVENTS = [
    RunStarted(
        at=1767323045.25,
        run_id="20260102-030405-000006-abcdef",
        experiment="churn",
        name="baseline",
        process=TRAINER,
        parent_run_id="20260102-030000-000000-fedcba",
        attempt=2,
        resumed_from="20260101-000000-000000-012345",
        rank=0,
        world_size=2,
        backends=(
            BackendSpec(
                name="mlflow",
                type="mlobs.backends.mlflow:MLflow",
                params={"tracking_uri": "sqlite:////m.db"},
            ),
        ),
        mlobs_version="0.1.0",
        python_version="3.11.7",
        argv=("train.py", "--lr", "0.1"),
    ),
    Params(
        at=1767323046.25,
        values={"lr": 0.1, "depth": 7, "opt.name": "adam", "layers": [64, "relu", None], "amp": True},
        conflict=None,
    ),
    Params(at=1767323047.25, values={"lr": 0.2}, conflict="keep_first"),
    Params(at=1767323048.25, values={"depth": 9}, conflict="overwrite"),
    Tags(at=1767323049.25, values={"team": "x", "note": "Grüße, 世界 \U0001f600"}),
    Metrics(at=1767323050.25, step=0, values={"loss": 0.5, "val/acc": 0.1}, meta=None),
    Metrics(at=1767323050.75, step=0, values={"loss": 0.75}, meta={"rank": 1}),
    Metrics(
        at=1767323051.25,
        step=1,
        values={"loss": math.nan, "top": math.inf, "bottom": -math.inf, "zero": -0.0},
        meta={"part": "a"},
    ),
    Metrics(at=1767323052.25, step=-3, values={"loss": 5e-324}, meta=None),
    Log(
        at=1767323053.25,
        message="hello",
        level="WARNING",
        logger="train",
        stream="logging",
        exception="Traceback ...",
        step=4,
        meta={"thread": "MainThread"},
    ),
    Log(
        at=1767323054.25,
        message="a line of stdout",
        level="INFO",
        logger="",
        stream="stdout",
        exception=None,
        step=None,
        meta=None,
    ),
    Artifact(
        at=1767323055.25,
        path="notes/a.txt",
        size_bytes=5,
        role="text",
        media_type="text/plain",
        blob=None,
        data=b"inner",
        step=2,
        meta={"k": 1},
        raw=None,
    ),
    Artifact(
        at=1767323056.25,
        path="model.bin",
        size_bytes=12,
        role="model",
        media_type="application/octet-stream",
        blob=0,
        data=None,
        step=None,
        meta=None,
        raw={"dtype": "float32", "shape": [3]},
    ),
    Histogram(
        at=1767323057.25,
        step=1,
        name="weights",
        counts=[1.0, 2.5],
        edges=[-1.0, 0.0, 1.0],
        meta={"layer": 1},
    ),
    Dataset(
        at=1767323058.25,
        name="train",
        version="v3",
        fingerprint="blake3:00ff",
        strength="content",
        context="train",
        source="s3://bucket/train.parquet",
        rows=1000,
        columns={"age": "int64", "city": "str"},
        step=None,
        meta={"split": 0.8},
    ),
    Snapshot(at=1767323059.25, part="code", facts={"commit": "abc", "dirty": True}, blob=1, missing=None),
    Snapshot(at=1767323060.25, part="environment", facts={}, blob=None, missing="the interpreter was gone"),
    ModelFingerprint(
        at=1767323061.25,
        name="net",
        fingerprint="blake3:11ee",
        scheme="torch-state-1",
        leaves={"w": "blake3:22dd"},
        step=1,
        meta={"best": True},
    ),
    Heartbeat(at=1767323062.25),
    Rewind(at=1767323063.25, from_step=1),
    Metrics(at=1767323064.25, step=1, values={"loss": 0.25}, meta=None),
    Unknown(kind="telepathy", fields=(1767323065.25, {"mood": "calm"}, [1, 2])),
    Tags(at=1767323066.25, values={"later": "yes"}),
    Artifact(
        at=1767323067.25,
        path="a.glb",
        size_bytes=3,
        role="hologram",
        media_type="model/gltf",
        blob=None,
        data=b"abc",
        step=None,
        meta=None,
        raw=None,
    ),
    RunFinished(
        at=1767323068.25,
        status="FAILED",
        reason="ValueError: no data",
        traceback="Traceback ...\nValueError: no data",
        exit_code=1,
        unrecorded=3,
    ),
    Metrics(at=1767323075.25, step=2, values={"loss": 0.125}, meta=None),
]


@pytest.fixture(scope="module")
def record() -> RunRecord:
    return mlobs.load_run(RUN_ID, store=STORE)


def test_every_event_comes_back_as_it_was_recorded(record: RunRecord) -> None:
    found = [repr(event) for event in record.events()]  # NaN equals NaN and -0.0 differs from 0.0 as text

    assert found == [repr(event) for event in EVENTS]


def test_the_fixture_holds_every_kind_and_one_of_the_future() -> None:
    assert {kind_of(event) for event in EVENTS} == ALL_KINDS | {"telepathy"}


def test_the_record_reads_as_it_did(record: RunRecord) -> None:
    assert (record.status, record.reason) == ("FAILED", "ValueError: no data")
    assert record.started == datetime(2026, 1, 2, 3, 4, 5, 250000, tzinfo=timezone.utc)
    assert record.ended == datetime(2026, 1, 2, 3, 4, 28, 250000, tzinfo=timezone.utc)
    assert record.params == {
        "lr": 0.1,
        "depth": 9,
        "opt.name": "adam",
        "layers": [64, "relu", None],
        "amp": True,
    }
    assert record.tags == {"team": "x", "note": "Grüße, 世界 \U0001f600", "later": "yes"}
    assert record.last_metrics == {"loss": 0.125, "val/acc": 0.1}
    assert record.damage == ()


def test_points_that_were_rewound_no_longer_count(record: RunRecord) -> None:
    points = record.metrics[["key", "step", "value"]].to_records(index=False).tolist()

    assert points == [
        ("loss", 0, 0.5),
        ("val/acc", 0, 0.1),
        ("loss", 0, 0.75),
        ("loss", -3, 5e-324),
        ("loss", 1, 0.25),
        ("loss", 2, 0.125),
    ]


def test_blobs_are_found_by_writer_and_ordinal(record: RunRecord) -> None:
    model, later = record.artifacts

    assert (later.path, later.role, later.read_bytes()) == ("a.glb", "hologram", b"abc")
    assert (model.path, model.role, model.read_bytes()) == ("model.bin", "model", b"twelve bytes")
    assert (record.folder.path / "blobs" / f"{OPENER}-1").read_bytes() == b"a patch"


def test_the_headers_say_who_wrote(record: RunRecord) -> None:
    with Reader(record.folder.journal(OPENER)) as reader:
        opener = reader.header()
    with Reader(record.folder.journal(RANK_1)) as reader:
        second = reader.header()

    assert opener == Header(1, RUN_ID, OPENER, TRAINER, 1767323044.75, is_opener=True)
    assert second is not None
    assert (second.format, second.writer, second.process.pid, second.is_opener) == (1, RANK_1, 4243, False)


def test_zeros_up_to_a_segment_and_behind_the_last_record_are_no_damage(record: RunRecord) -> None:
    path = record.folder.journal(RANK_1)
    with Reader(path) as reader:
        offsets = [(start, end) for start, end, _ in reader.bodies()]

    assert [start for start, _ in offsets][2] == 262144
    assert offsets[-1][1] < path.stat().st_size
    assert reader.damage == []


def test_a_record_is_these_bytes(tmp_path: Path) -> None:
    """Magic, length, CRC of both, CRC of the body; body: `["metrics", 1.5, 3, {"loss": 0.25}, nil]`."""
    path = tmp_path / "w.journal"
    path.write_bytes(
        bytes.fromhex(
            "ab4d4c6f 23000000 511aa666 1faf9ff4"
            "95 a76d657472696373 cb3ff8000000000000 03 81 a46c6f7373 cb3fd0000000000000 c0"
        )
    )

    with Reader(path) as reader:
        found = list(reader.events())

    assert found == [(0, 51, Metrics(1.5, 3, {"loss": 0.25}))]


def test_the_delivery_state_reads_as_it_did(record: RunRecord) -> None:
    found = report(record.folder)
    state = States(record.folder.delivery).refresh().of("mlflow")

    assert (state.serial, state.ref) == (2, "ref-2")
    assert state.cursors == {OPENER: record.folder.journal(OPENER).stat().st_size}

    assert found == {
        "mlflow": BackendReport(
            backend="mlflow",
            delivered=20,
            lowered=1,
            skipped=2,
            rejected=1,
            pending=2,
            state="delivering",
            trouble="",
            vendor_id="vendor-7",
            url="http://127.0.0.1/run",
            reasons=(
                "lowered: 'top' was infinite, which the backend cannot store",
                "skipped: the backend does not take events of kind 'log' (2 times)",
                "rejected: no such place",
            ),
        )
    }


def test_reading_changes_nothing(record: RunRecord) -> None:
    suffixes = Counter(path.suffix or path.parent.name for path in STORE.rglob("*") if path.is_file())

    assert list(record.events())
    assert suffixes == {".journal": 2, ".state": 1, "blobs": 2}
