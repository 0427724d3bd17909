"""What MLflow holds after deliveries, read back by MLflow's own client: a SQLite database, and a server."""

import io
import json
import math
import os
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from mlflow_server import mlflow_server

from mlobs.backend import Batch, Entry
from mlobs.backends import mlflow_files, mlflow_uploads
from mlobs.backends.mlflow import MLflow
from mlobs.errors import Unavailable
from mlobs.events import Artifact, Dataset, Metrics, Params, Process, RunFinished, RunStarted, Tags

# MLflow 3.17 on SQLAlchemy 2.1: its own query, deprecated there
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")

AT = 1_700_000_000.25
MS = 1_700_000_000_250


@pytest.fixture(scope="module")
def sqlite_place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sqlite")
    backend = MLflow(f"sqlite:///{folder}/new/mlflow.db", artifact_location=str(folder / "artifacts"))
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def http_place(tmp_path_factory):
    with mlflow_server(tmp_path_factory.mktemp("server")) as uri:
        backend = MLflow(uri)
        yield backend
        backend.close()


@pytest.fixture(params=["sqlite", "http"])
def backend(request):
    """The backend over SQLite and over HTTP; runs are apart by their ids, so the place is shared."""
    return request.getfixturevalue(f"{request.param}_place")


@pytest.fixture
def client(backend):
    from mlflow import MlflowClient

    return MlflowClient(backend.tracking_uri)


@pytest.fixture
def sqlite_client(sqlite_place):
    from mlflow import MlflowClient

    return MlflowClient(sqlite_place.tracking_uri)


def started(**changes):
    run = RunStarted(AT, uuid.uuid4().hex, "contract", "a run", Process("host", 7, "boot", 3))
    return msgspec.structs.replace(run, **changes)


def batch_of(run, *events, ref=None, parent_ref=None):
    entries = tuple(Entry(f"{run.run_id}/{n}", event) for n, event in enumerate(events))
    return Batch(run, entries, lambda entry: io.BytesIO(entry.event.data or b""), ref, parent_ref)


def history(client, ref, name):
    points = client.get_metric_history(ref, name)
    return sorted((p.step, "nan" if math.isnan(p.value) else p.value, p.timestamp) for p in points)


def runs_of(client, run):
    experiment = client.get_experiment_by_name(run.experiment)
    return client.search_runs([experiment.experiment_id], f"tags.`mlobs.run_id` = '{run.run_id}'")


def test_metrics_keep_value_step_and_time(backend, client):
    run = started()
    events = [
        Metrics(AT + i / 1000, s, {"loss": 0.1 * i, "val/acc": 1 / 3}) for i, s in enumerate((5, -2, 5, 0))
    ]
    receipt = backend.deliver(batch_of(run, run, *events))
    expected = sorted((e.step, e.values["loss"], MS + i) for i, e in enumerate(events))
    assert history(client, receipt.ref, "loss") == expected
    assert len(history(client, receipt.ref, "val/acc")) == 4
    assert not receipt.rejected
    assert not receipt.lowered


def test_nan_comes_back_as_nan(backend, client):
    run = started()
    receipt = backend.deliver(
        batch_of(run, run, Metrics(AT, 1, {"loss": math.nan}), Metrics(AT, 2, {"loss": 0.0}))
    )
    assert history(client, receipt.ref, "loss") == [(1, "nan", MS), (2, 0.0, MS)]


def test_a_repeated_batch_is_stored_once(backend, client):
    run = started()
    points = [Metrics(AT, i, {"loss": float(i), "nan": math.nan}) for i in range(50)]
    batch = batch_of(
        run, run, Params(AT, {"lr": 0.1}), Tags(AT, {"a": "b"}), *points, RunFinished(AT, "FINISHED")
    )
    first = backend.deliver(batch)
    assert backend.deliver(replace(batch, ref=first.ref)) == first
    assert len(history(client, first.ref, "loss")) == len(history(client, first.ref, "nan")) == 50
    assert len(runs_of(client, run)) == 1


def test_a_crash_before_the_receipt_makes_no_second_run(backend, client):
    run = started()
    first = backend.deliver(batch_of(run, run, Metrics(AT, 1, {"loss": 1.0})))
    backend.close()  # a new process knows nothing of the first one's run
    again = backend.deliver(batch_of(run, run, Metrics(AT, 1, {"loss": 1.0}), Metrics(AT, 2, {"loss": 2.0})))
    assert again.ref == first.ref
    assert len(runs_of(client, run)) == 1
    assert len(history(client, first.ref, "loss")) == 2


def test_a_point_logged_twice_within_a_millisecond_is_reported_as_merged(backend, client):
    run = started()
    twice = Metrics(AT, 1, {"loss": 1.0, "nan": math.nan})
    batch = batch_of(run, run, twice, twice, Metrics(AT, 1, {"loss": 2.0}))
    receipt = backend.deliver(batch)
    assert list(receipt.lowered) == [batch.entries[2].key]
    assert "merged" in receipt.lowered[batch.entries[2].key]
    assert history(client, receipt.ref, "loss") == [(1, 1.0, MS), (1, 2.0, MS)]


def test_more_than_one_request_takes_is_split(backend, client):
    run = started()
    receipt = backend.deliver(
        batch_of(
            run,
            Params(AT, {f"p{i}": "ü" * 6000 for i in range(120)}),
            Tags(AT, {f"t{i}": "x" * 8000 for i in range(120)}),
            Metrics(AT, 1, {f"m{i}": float(i) for i in range(1100)}),
        )
    )
    data = client.get_run(receipt.ref).data
    assert len(data.params) == 120
    assert len(data.metrics) == 1100
    assert all(data.tags[f"t{i}"] == "x" * 8000 for i in range(120))


def test_the_limits_are_the_vendors_own():
    from mlflow.utils import validation

    limits = MLflow.capabilities
    assert limits.max_values == validation.MAX_METRICS_PER_BATCH
    assert limits.max_name_length == validation.MAX_ENTITY_KEY_LENGTH
    assert limits.max_param_length == validation.MAX_PARAM_VAL_LENGTH
    assert limits.max_tag_length == validation.MAX_TAG_VAL_LENGTH


def test_the_run_has_the_events_name_start_and_tags(backend, client):
    run = started(argv=("train.py", "--secret"))
    mlflow_run = client.get_run(backend.deliver(batch_of(run, run)).ref)
    assert mlflow_run.info.run_name == "a run"
    assert mlflow_run.info.start_time == MS
    assert mlflow_run.info.status == "RUNNING"
    assert mlflow_run.data.tags["mlobs.run_id"] == run.run_id
    assert mlflow_run.data.tags["mlflow.source.name"] == "train.py"
    assert not any("--secret" in text for text in mlflow_run.data.tags.values())


@pytest.mark.parametrize(
    ("status", "there"),
    [("FINISHED", "FINISHED"), ("FAILED", "FAILED"), ("KILLED", "KILLED"), ("CRASHED", "FAILED")],
)
def test_the_end_is_the_events_status_and_time(backend, client, status, there):
    run = started()
    end = RunFinished(AT + 60, status, "process vanished", "Traceback: …", exit_code=3)
    ref = backend.deliver(batch_of(run, run, end, Metrics(AT, 1, {"late": 1.0}))).ref
    mlflow_run = client.get_run(ref)
    assert (mlflow_run.info.status, mlflow_run.info.end_time) == (there, MS + 60_000)
    assert mlflow_run.data.tags.get("mlobs.status") == (None if status == "FINISHED" else status)
    assert mlflow_run.data.tags.get("mlobs.reason") == (None if status == "FINISHED" else "process vanished")
    assert mlflow_run.data.metrics == {"late": 1.0}
    assert [file.path for file in client.list_artifacts(ref, "mlobs")] == ["mlobs/traceback.txt"]


def test_a_resumed_run_is_open_again(backend, client):
    run = started()
    ref = backend.deliver(batch_of(run, run, RunFinished(AT, "CRASHED", "process vanished"))).ref
    again = msgspec.structs.replace(run, attempt=2, at=AT + 9)
    backend.deliver(batch_of(again, again, ref=ref))
    mlflow_run = client.get_run(ref)
    assert mlflow_run.info.status == "RUNNING"
    assert "mlobs.status" not in mlflow_run.data.tags
    assert mlflow_run.data.tags["mlobs.attempt"] == "2"
    backend.deliver(batch_of(again, RunFinished(AT + 10, "FINISHED"), ref=ref))
    assert client.get_run(ref).info.status == "FINISHED"


def test_a_child_hangs_below_its_parent(backend, client):
    parent = started()
    child = started(parent_run_id=parent.run_id)
    parent_ref = backend.deliver(batch_of(parent, parent)).ref
    child_ref = backend.deliver(batch_of(child, child, parent_ref=parent_ref)).ref
    assert client.get_run(child_ref).data.tags["mlflow.parentRunId"] == parent_ref


def test_a_parent_that_lives_elsewhere_is_found_by_its_tag(backend, client):
    parent = started()
    child = started(parent_run_id=parent.run_id)
    parent_ref = backend.deliver(batch_of(parent, parent)).ref
    child_ref = backend.deliver(batch_of(child, child)).ref
    assert client.get_run(child_ref).data.tags["mlflow.parentRunId"] == parent_ref


def test_a_parent_that_comes_late_is_linked_late(backend, client):
    child = started(parent_run_id=(parent := started()).run_id)
    child_ref = backend.deliver(batch_of(child, child)).ref
    tags = client.get_run(child_ref).data.tags
    assert tags["mlobs.parent_run_id"] == parent.run_id
    assert "mlflow.parentRunId" not in tags
    parent_ref = backend.deliver(batch_of(parent, parent)).ref
    backend.deliver(batch_of(child, ref=child_ref, parent_ref=parent_ref))
    assert client.get_run(child_ref).data.tags["mlflow.parentRunId"] == parent_ref


def test_an_artifact_has_equal_bytes_under_its_path(backend, client, tmp_path):
    run, content = started(), os.urandom(3_000_000)
    event = Artifact(AT, "models/deep/model v1.bin", len(content), data=content)
    ref = backend.deliver(batch_of(run, run, event, Artifact(AT, "top.txt", 2, "text", data=b"hi"))).ref
    for path, expected in (("models/deep/model v1.bin", content), ("top.txt", b"hi")):
        assert Path(client.download_artifacts(ref, path, str(tmp_path))).read_bytes() == expected


def test_the_last_of_a_path_counts_and_steps_stay_apart(backend, client, tmp_path):
    run = started()
    images = [Artifact(AT, "img/a.png", 1, data=data, step=step) for data, step in ((b"1", 1), (b"2", 2))]
    texts = [Artifact(AT, "n.txt", 1, data=data) for data in (b"o", b"n")]
    batch = batch_of(run, run, *images, *texts)
    receipt = backend.deliver(batch)
    assert [f.path for f in client.list_artifacts(receipt.ref, "img")] == [
        "img/a@step1.png",
        "img/a@step2.png",
    ]
    assert Path(client.download_artifacts(receipt.ref, "n.txt", str(tmp_path))).read_bytes() == b"n"
    assert set(receipt.lowered) == {entry.key for entry in batch.entries[1:3]}


def test_a_changed_param_goes_to_a_tag_and_is_reported(backend, client):
    run = started()
    batch = batch_of(
        run,
        Params(AT, {"lr": 0.1, "depth": 3}),
        Params(AT, {"lr": 0.2}, "overwrite"),
        Params(AT, {"depth": 4}, "keep_first"),
    )
    receipt = backend.deliver(batch)
    data = client.get_run(receipt.ref).data
    assert data.params == {"lr": "0.1", "depth": "3"}
    assert (data.tags["mlobs.param.lr"], data.tags["mlobs.param_conflict.depth"]) == ("0.2", "4")
    assert set(receipt.lowered) == {entry.key for entry in batch.entries[1:]}
    assert not receipt.rejected


def test_a_param_that_the_server_holds_otherwise_is_kept_in_a_tag_and_the_rest_is_stored(backend, client):
    run = started()
    ref = backend.deliver(batch_of(run, run)).ref
    client.log_param(ref, "lr", "0.5")
    client.log_param(ref, "layers", "7")
    batch = batch_of(
        run,
        Params(AT, {"lr": 0.1, "depth": 3}),
        Params(AT, {"layers": 7.0}),
        Metrics(AT, 1, {"a": 1.0}),
        ref=ref,
    )
    receipt = backend.deliver(batch)
    data = client.get_run(ref).data
    assert data.params == {"lr": "0.5", "depth": "3", "layers": "7"}
    assert data.tags["mlobs.param_conflict.lr"] == "0.1"
    assert data.metrics == {"a": 1.0}
    assert list(receipt.lowered) == [batch.entries[0].key]
    assert "already holds '0.5'" in receipt.lowered[batch.entries[0].key]


def test_values_that_are_text_or_nothing_are_params(backend, client):
    run = started()
    values = {"none": None, "empty": "", "list": [1, "a"], "flag": True, "multi": "a\nb"}
    data = client.get_run(backend.deliver(batch_of(run, Params(AT, values))).ref).data
    assert data.params == {"none": "None", "empty": "", "list": '[1,"a"]', "flag": "True", "multi": "a\nb"}


def test_a_bad_event_is_named_by_the_vendors_message(backend):
    run = started()
    with pytest.raises(Exception, match="Invalid value"):
        backend.deliver(batch_of(run, run, Metrics(AT, 1, {"loss:%": 1.0})))


def test_the_page_is_known_where_a_server_shows_it(http_place, sqlite_place):
    run = started()
    receipt = http_place.deliver(batch_of(run, run))
    assert receipt.url.startswith(http_place.tracking_uri + "/#/experiments/")
    assert receipt.url.endswith(f"/runs/{receipt.ref}")
    assert sqlite_place.deliver(batch_of(run, run)).url is None


def test_a_deleted_experiment_says_how_to_restore_it(sqlite_place, sqlite_client):
    run = started(experiment="deleted")
    sqlite_client.delete_experiment(sqlite_client.create_experiment("deleted"))
    with pytest.raises(Unavailable, match="mlflow experiments restore --experiment-id"):
        sqlite_place.deliver(batch_of(run, run))


def test_events_of_a_deleted_run_wait(sqlite_place, sqlite_client):
    run = started()
    ref = sqlite_place.deliver(batch_of(run, run)).ref
    sqlite_client.delete_run(ref)
    with pytest.raises(Unavailable, match="active"):
        sqlite_place.deliver(batch_of(run, Metrics(AT, 1, {"a": 1.0}), ref=ref))


def test_everything_comes_back_as_events(backend):
    run = started(parent_run_id="elsewhere", attempt=1, world_size=2, python_version="3.11")
    largest = sys.float_info.max
    points = [Metrics(AT + i, i, {"loss": i / 7}) for i in range(20)] + [Metrics(AT, 0, {"gap": math.nan})]
    events = [
        Params(AT, {"a_x3A_b": "1"}),
        Params(AT, {"c": "2"}, "overwrite"),
        Tags(AT, {"team": "x", "mlobs.infinite.peak": "inf at step 1"}),
        *points,
        Metrics(AT, 1, {"peak": largest}),
        Metrics(AT, 2, {"peak": -largest}),
        Artifact(AT, "a/b.png", 3, data=b"abc", step=-4),
        RunFinished(AT + 30, "CRASHED", "process vanished", "Traceback: x", 139, 2),
    ]
    ref = backend.deliver(batch_of(run, run, *events)).ref
    back = list(backend.source().read(ref))
    assert back[0] == run
    assert back[-1] == RunFinished(AT + 30, "CRASHED", "process vanished", "Traceback: x", 139, 2)
    assert [e for e in back if isinstance(e, Tags)] == [Tags(AT, {"team": "x"})]
    assert [e for e in back if isinstance(e, Params)] == [
        Params(AT, {"a:b": "1"}),
        Params(AT, {"c": "2"}, "overwrite"),
    ]
    metrics = [e for e in back if isinstance(e, Metrics)]
    assert [e for e in metrics if "loss" in e.values] == points[:20]
    assert {e.step: e.values["peak"] for e in metrics if "peak" in e.values} == {1: math.inf, 2: -math.inf}
    assert any(math.isnan(e.values["gap"]) for e in metrics if "gap" in e.values)
    (artifact,) = (e for e in back if isinstance(e, Artifact))
    assert (artifact.path, artifact.step, artifact.data, artifact.size_bytes) == ("a/b.png", -4, b"abc", 3)


def test_a_run_that_mlobs_did_not_write_can_be_read(sqlite_place, sqlite_client):
    ref = sqlite_client.create_run("0", start_time=MS, run_name="theirs").info.run_id
    sqlite_client.log_metric(ref, "m", 1.5, MS + 1, 3)
    sqlite_client.set_terminated(ref, "FINISHED", MS + 2)
    start, *rest = sqlite_place.source().read(ref)
    assert (start.run_id, start.experiment, start.name, start.at) == (ref, "Default", "theirs", AT)
    assert rest == [Metrics((MS + 1) / 1000, 3, {"m": 1.5}), RunFinished((MS + 2) / 1000, "FINISHED")]


@pytest.mark.parametrize(
    ("path", "step"),
    [
        ("a/b.csv", None),
        ("a/b.csv", 3),
        ("ckpt.step100.pt", None),
        ("ckpt@step100.pt", None),
        ("ckpt@@step100.pt", None),
        ("ckpt@step100.pt", -7),
        ("ckpt@step100", 2),
        ("page+compressed.webp", None),
        ("images/page+compressed.webp", 1),
    ],
)
def test_every_path_comes_back_as_it_was(path, step):
    event = Artifact(AT, path, 1, step=step)
    stored = mlflow_files.stored_path(event, "key")

    assert mlflow_files.logged(stored) == mlflow_files.Logged(path, step)


def test_a_file_that_is_called_like_one_of_a_step_keeps_its_own_content(backend, client, tmp_path):
    run = started()
    named = Artifact(AT, "ckpt@step3.txt", 1, "text", data=b"n")
    usual = Artifact(AT, "ckpt.step3.txt", 1, "text", data=b"u")
    stepped = Artifact(AT, "ckpt.txt", 1, "text", data=b"s", step=3)
    ref = backend.deliver(batch_of(run, run, named, usual, stepped)).ref

    held = {one.path for one in client.list_artifacts(ref)}
    assert held == {"ckpt@@step3.txt", "ckpt.step3.txt", "ckpt@step3.txt"}
    assert Path(client.download_artifacts(ref, "ckpt.step3.txt", str(tmp_path))).read_bytes() == b"u"
    read = [one for one in backend.source().read(ref) if isinstance(one, Artifact)]
    assert {(one.path, one.step): one.data for one in read} == {
        ("ckpt@step3.txt", None): b"n",
        ("ckpt.step3.txt", None): b"u",
        ("ckpt.txt", 3): b"s",
    }


def test_tables_beyond_what_a_tag_holds_are_stored_and_that_is_said(sqlite_place, sqlite_client):
    run, content = started(), b'{"columns":["a"],"data":[[1]]}'
    tables = [Artifact(AT, f"t/{n:03}-{'x' * 40}.json", 1, "table", data=content) for n in range(150)]
    batch = batch_of(run, run, *tables)
    receipt = sqlite_place.deliver(batch)

    listed = json.loads(sqlite_client.get_run(receipt.ref).data.tags["mlflow.loggedArtifacts"])
    assert [one["path"] for one in listed] == [one.path for one in tables[: len(listed)]]
    assert set(receipt.lowered) == {entry.key for entry in batch.entries[1 + len(listed) :]} != set()
    assert len(sqlite_client.list_artifacts(receipt.ref, "t")) == 150


def test_a_list_of_tables_that_was_cut_stops_nothing(sqlite_place, sqlite_client):
    run = started()
    ref = sqlite_place.deliver(batch_of(run, run)).ref
    sqlite_client.set_tag(ref, "mlflow.loggedArtifacts", '[{"path": "a.json", "ty')
    again = MLflow(sqlite_place.tracking_uri)
    again.deliver(batch_of(run, Artifact(AT, "b.json", 1, "table", data=b"{}"), ref=ref))

    text = sqlite_client.get_run(ref).data.tags["mlflow.loggedArtifacts"]
    assert json.loads(text) == [{"path": "b.json", "type": "table"}]


def test_a_dataset_of_two_contexts_is_there_once_and_that_is_said(backend, client):
    run = started()
    train, test = (Dataset(AT, "data", None, "b3:12", "rows", context) for context in ("train", "test"))
    batch = batch_of(run, run, train, test)
    receipt = backend.deliver(batch)
    later = MLflow(backend.tracking_uri).deliver(batch_of(run, test, train, ref=receipt.ref))

    (held,) = client.get_run(receipt.ref).inputs.dataset_inputs
    assert {tag.key: tag.value for tag in held.tags}["mlflow.data.context"] == "train"
    assert list(receipt.lowered) == [batch.entries[2].key]
    assert "under 'train', not 'test'" in receipt.lowered[batch.entries[2].key]
    assert list(later.lowered) == [batch.entries[0].key]


def test_a_damaged_image_of_a_step_is_stored_as_it_is(backend, client, tmp_path):
    run, content = started(), b"\x89PNG\r\n\x1a\n then nothing"
    batch = batch_of(run, run, Artifact(AT, "a.png", 1, "image", "image/png", data=content, step=1))
    receipt = backend.deliver(batch)

    (stored,) = client.list_artifacts(receipt.ref, "images")
    assert Path(client.download_artifacts(receipt.ref, stored.path, str(tmp_path))).read_bytes() == content
    assert not receipt.rejected
    assert "no small copy" in receipt.lowered[batch.entries[1].key]


def test_an_image_whose_name_the_grid_cannot_hold_is_a_file(backend, client):
    run, path = started(), "/".join(["deep" * 10] * 7) + "/a.png"
    image = Artifact(AT, path, 1, "image", "image/png", data=b"x", step=1)
    receipt = backend.deliver(batch_of(run, run, image))

    assert not receipt.rejected
    (stored,) = client.list_artifacts(receipt.ref, path.removesuffix("/a.png"))
    assert stored.path.endswith("/a@step1.png")


def test_a_file_of_any_size_needs_no_room_in_the_temporary_folder(backend, client, tmp_path):
    run, content = started(), os.urandom(3_000_000)
    (tmp_path / "blob").write_bytes(content)
    batch = batch_of(run, run, Artifact(AT, "large.bin", len(content), "file"))
    receipt = backend.deliver(replace(batch, open_blob=lambda _: (tmp_path / "blob").open("rb")))

    (tmp_path / "there").mkdir()
    stored = Path(client.download_artifacts(receipt.ref, "large.bin", str(tmp_path / "there")))
    assert stored.read_bytes() == content
    assert not stored.is_symlink()


def test_a_file_on_the_disk_is_lent_by_a_link_and_anything_else_by_a_copy(tmp_path):
    (tmp_path / "blob").write_bytes(b"content")
    with (tmp_path / "blob").open("rb") as source:
        mlflow_uploads._lend(source, tmp_path / "linked")
    mlflow_uploads._lend(io.BytesIO(b"content"), tmp_path / "copied")

    assert (tmp_path / "linked").is_symlink()
    assert (tmp_path / "linked").read_bytes() == (tmp_path / "copied").read_bytes() == b"content"
