"""What `mlobs.load_run` promises."""

import pytest
from recorded import ELSEWHERE, add_writer, flip, open_run, record_run, start_of, vanished_run, write_as

import mlobs
from mlobs.errors import StoreError, UsageError
from mlobs.events import (
    Artifact,
    Dataset,
    Histogram,
    Log,
    Metrics,
    Params,
    Rewind,
    Snapshot,
    Tags,
    Unknown,
)
from mlobs.journal.blobs import blob_path
from mlobs.journal.format import encode, frame
from mlobs.journal.reader import Reader
from mlobs.journal.store import Store, new_run_id
from mlobs.read.record import load_run


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store")
    made.create()
    return made


def test_a_run_is_found_by_id_by_unique_beginning_and_as_latest(store):
    first = record_run(store, run_id="20240101-aaa", name="first")
    record_run(store, run_id="20240202-bbb", name="second")
    assert load_run(first.run_id, store=store).name == "first"
    assert load_run("20240101", store=store).name == "first"
    assert load_run("latest", store=str(store.path)).name == "second"
    with pytest.raises(UsageError, match="the id of the run is empty"):
        mlobs.load_run("", store=store.path)
    with pytest.raises(UsageError, match="2 runs begin with '2024'"):
        load_run("2024", store=store)
    with pytest.raises(UsageError, match="no run 'x'"):
        load_run("x", store=store)


def test_a_run_that_has_not_recorded_anything_yet_says_so(store):
    folder = store.new_run(new_run_id(1000.0))
    (folder.path / "w.journal").touch()
    with pytest.raises(UsageError, match="has not recorded anything yet"):
        load_run("latest", store=store)


def test_the_first_value_of_a_param_counts_unless_it_is_overwritten(store):
    record_run(
        store,
        Params(1001.0, {"lr": 0.1, "depth": [1, 2]}),
        Params(1002.0, {"lr": 0.2}, "keep_first"),
        Params(1003.0, {"depth": 3}, "overwrite"),
    )
    assert load_run("latest", store=store).params == {"lr": 0.1, "depth": 3}


def test_the_latest_value_of_a_tag_counts_over_all_writers(store):
    folder, writer = open_run(store, Tags(1001.0, {"stage": "dev"}), Tags(1009.0, {"stage": "prod"}))
    writer.close()
    add_writer(folder, Tags(1005.0, {"stage": "test", "rank": "1"}))
    assert load_run("latest", store=store).tags == {"stage": "prod", "rank": "1"}


def test_artifacts_come_back_byte_for_byte_from_the_journal_and_from_blobs(store):
    folder, writer = open_run(store, Artifact(1001.0, "notes.txt", 5, "text", data="né\n".encode()))
    content = bytes(range(256)) * 500
    ordinal = writer.keep_bytes(content)
    writer.append(Artifact(1002.0, "model.bin", len(content), blob=ordinal, step=3))
    writer.close()
    notes, model = load_run("latest", store=store).artifacts
    assert (notes.path, notes.text(), notes.file) == ("notes.txt", "né\n", None)
    assert model.read_bytes() == content
    assert model.file == blob_path(folder.path, writer.id, ordinal)
    model.file.unlink()
    with pytest.raises(StoreError, match=r"model\.bin"):
        model.read_bytes()


def test_the_latest_artifact_of_a_path_and_step_counts(store):
    record_run(
        store,
        Artifact(1001.0, "a.txt", 1, data=b"1"),
        Artifact(1002.0, "a.txt", 1, data=b"2", step=1),
        Artifact(1003.0, "a.txt", 1, data=b"3"),
    )
    found = load_run("latest", store=store).artifacts
    assert [(one.step, one.read_bytes()) for one in found] == [(1, b"2"), (None, b"3")]


def test_a_rewind_takes_back_what_has_a_step_and_leaves_the_rest(store):
    record_run(
        store,
        Artifact(1001.0, "a.txt", 1, data=b"1", step=5),
        Histogram(1001.0, 5, "weights", [1.0], [0.0, 1.0]),
        Histogram(1001.0, 1, "weights", [2.0], [0.0, 1.0]),
        Artifact(1001.0, "b.txt", 1, data=b"1"),
        Log(1001.0, "line", step=5),
        Rewind(1002.0, 3),
        Artifact(1003.0, "c.txt", 1, data=b"1", step=5),
    )
    run = load_run("latest", store=store)
    assert [one.path for one in run.artifacts] == ["b.txt", "c.txt"]
    assert [one.step for one in run.histograms] == [1]
    assert [one.message for one in run.logs()] == ["line"]


def test_kinds_of_a_newer_version_are_shown_among_the_events(store):
    folder, writer = open_run(store, Metrics(1001.0, 0, {"loss": 1.0}))
    writer.close()
    future = frame(encode(["hologram", 1002.0, "x", {"depth": 3}]))
    writer.path.write_bytes(writer.path.read_bytes() + future)
    run = load_run(folder.run_id, store=store)
    assert list(run.events())[-1] == Unknown("hologram", (1002.0, "x", {"depth": 3}))
    assert run.unknown == (Unknown("hologram", (1002.0, "x", {"depth": 3})),)
    assert run.damage == ()


def test_datasets_and_snapshot_parts_are_there(store):
    record_run(
        store,
        Dataset(1001.0, "train", "v1", "abc", "content"),
        Snapshot(1002.0, "code", {"commit": "old"}),
        Snapshot(1003.0, "code", {"commit": "new"}),
    )
    run = load_run("latest", store=store)
    assert [one.fingerprint for one in run.datasets] == ["abc"]
    assert run.snapshots["code"].facts == {"commit": "new"}


def test_events_of_several_writers_come_by_time(store):
    folder, writer = open_run(store, Log(1001.0, "one"), Log(1003.0, "three"))
    writer.close()
    add_writer(folder, Log(1002.0, "two"), Log(1004.0, "four"))
    assert [line.message for line in load_run("latest", store=store).logs()] == [
        "one",
        "two",
        "three",
        "four",
    ]


def test_metrics_on_demand_are_the_runs_own(store):
    record_run(store, Metrics(1001.0, 0, {"loss": 1.0}), at=1000.0)
    record_run(store, Metrics(2001.0, 0, {"loss": 2.0}), at=2000.0)
    assert list(load_run("latest", store=store).metrics["value"]) == [2.0]


def _record_offsets(path):
    with Reader(path) as reader:
        return [(start, end) for start, end, _ in reader.bodies()]


def test_a_damaged_record_is_named_and_everything_around_it_is_read(store):
    folder = record_run(store, *(Metrics(1001.0 + n, n, {"loss": float(n)}) for n in range(5)))
    path = folder.journals()[0]
    start, end = _record_offsets(path)[4]
    flip(path, start + 20)
    run = load_run("latest", store=store)
    assert list(run.metrics["value"]) == [0.0, 1.0, 3.0, 4.0]
    assert [(one.file, one.offset, one.size_bytes) for one in run.damage] == [(path, start, end - start)]


def test_a_damaged_header_leaves_the_run_readable(store):
    folder = record_run(store, Params(1001.0, {"lr": 0.1}))
    flip(folder.journals()[0], 20)
    run = load_run("latest", store=store)
    assert (run.status, run.name, run.params) == ("FINISHED", "baseline", {"lr": 0.1})
    assert run.damage


def test_a_record_cut_off_by_its_writers_death_is_damage(store):
    folder = vanished_run(store)
    path = folder.journals()[0]
    end = _record_offsets(path)[-1][1]
    path.write_bytes(path.read_bytes()[:end] + frame(encode(Metrics(1.0, 1, {"a": 1.0})))[:-3])
    assert [one.what for one in load_run("latest", store=store).damage] == ["cut off by the writer's death"]


def test_a_record_that_a_living_or_a_far_writer_is_writing_is_not_damage(store):
    half = frame(encode(Metrics(1.0, 1, {"a": 1.0})))[:-3]
    _, writer = open_run(store, at=1000.0)
    end = writer.end()
    writer.path.write_bytes(writer.path.read_bytes()[:end] + half)
    assert load_run("latest", store=store).damage == ()
    folder = store.new_run(new_run_id(2000.0))
    path = write_as(folder, ELSEWHERE, start_of(folder.run_id), is_opener=True)
    path.write_bytes(path.read_bytes() + half)
    assert load_run("latest", store=store).damage == ()


def test_a_journal_that_cannot_be_opened_is_named_and_the_others_are_read(store):
    folder = record_run(store, Params(1001.0, {"lr": 0.1}))
    (folder.path / "broken.journal").symlink_to(folder.path / "nowhere")
    run = load_run("latest", store=store)
    assert run.params == {"lr": 0.1}
    assert [one.file.name for one in run.damage] == ["broken.journal"]
    assert "cannot be read" in run.damage[0].what


def test_a_run_whose_clock_was_nonsense_hides_no_other(tmp_path):
    store = Store(tmp_path)
    record_run(store, at=1000.0)
    picture = Artifact(1.7e18, "a.png", 1, "image", "image/png", data=b"x")
    record_run(store, Metrics(1.7e12, 0, {"loss": 1.0}), picture, at=1.7e12, run_id="counted-in-milliseconds")
    listed = mlobs.runs(store=store).set_index("run_id")
    assert len(listed) == 2
    assert listed.loc["counted-in-milliseconds", ["status", "metrics.loss"]].tolist() == ["FINISHED", 1.0]
    assert listed["started"].isna().tolist().count(True) == 1
