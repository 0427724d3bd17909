"""Event files of the vendors' own writers are imported right, and what they hold reaches MLflow unchanged."""

import io
import math
import os
import shutil
import struct
import wave

import numpy as np
import pytest
from PIL import Image
from vendor_runs import bounded, client_of, histories, runs_of

import mlobs
from mlobs.moving.importing import import_runs
from mlobs.moving.replaying import replay_runs

tensorboard = pytest.importorskip("tensorboard")
SCALARS = [(0, 1.5), (1, 0.1), (2, math.nan), (3, math.inf), (1, 0.25)]
LONG_AGO = 1_600_000_000


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def logdir(tmp_path):
    return tmp_path / "logs"


def settle(logdir):
    """Let the files look as if nobody had written to them for long."""
    for path in logdir.rglob("*tfevents*"):
        os.utime(path, (LONG_AGO, LONG_AGO))


def by_name(store):
    return {run.name: mlobs.load_run(run.run_id, store=store) for run in mlobs.runs(store=store).itertuples()}


def points_of(run, key):
    rows = run.metrics[run.metrics["key"] == key]
    return [(int(step), str(value)) for step, value in zip(rows["step"], rows["value"], strict=True)]


def expected(scalars=SCALARS):
    return [(step, str(float(np.float32(value)))) for step, value in scalars]


def accumulated(folder):
    """Every scalar of a folder as TensorBoard's own accumulator reads it, of both styles."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    loaded = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    loaded.Reload()
    found = {tag: [(one, one.value) for one in loaded.Scalars(tag)] for tag in loaded.Tags()["scalars"]}
    for tag in loaded.Tags()["tensors"]:
        if loaded.SummaryMetadata(tag).plugin_data.plugin_name == "scalars":
            found[tag] = [(one, make_ndarray(one.tensor_proto).item()) for one in loaded.Tensors(tag)]
    return {
        tag: sorted(
            (
                (round(one.wall_time * 1000), one.step, "nan" if math.isnan(value) else bounded(value))
                for one, value in rows
            ),
            key=str,
        )
        for tag, rows in found.items()
    }


def write_with_torch(logdir):
    torch_writer = pytest.importorskip("torch.utils.tensorboard").SummaryWriter
    with torch_writer(str(logdir / "torch")) as writer:
        for step, value in SCALARS:
            writer.add_scalar("loss", value, step)
            writer.add_scalar("as/tensor", value, step, new_style=True)
        writer.add_histogram("weights", np.array([0.0, 1.0, 1.0, 2.0]), 3)
        writer.add_image("cat", np.full((3, 4, 5), 255, np.uint8), 2)
        writer.add_text("notes", "hello *there*", 1)
        writer.add_hparams({"lr": 0.1, "opt": "adam", "layers": 3}, {"final": 0.9}, run_name="trial")


def write_with_tensorboardx(logdir):
    writer = pytest.importorskip("tensorboardX").SummaryWriter(str(logdir / "x"), write_to_disk=True)
    for step, value in SCALARS:
        writer.add_scalar("loss", value, step)
    writer.add_text("notes", "hello", 1)
    writer.close()


def write_as_tensorflow_2(logdir, name="keras/train", suffix=".v2", at=1_700_000_000.0, scalars=SCALARS):
    """What `tf.summary` writes, by TensorBoard's own writer: tensors, whose plugin is told once a file."""
    from tensorboard.compat.proto import event_pb2
    from tensorboard.plugins.audio import metadata as audio
    from tensorboard.plugins.histogram import metadata as histogram
    from tensorboard.plugins.image import metadata as image
    from tensorboard.plugins.scalar import metadata as scalar
    from tensorboard.plugins.text import metadata as text
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
    from tensorboard.util.tensor_util import make_tensor_proto

    writer = EventFileWriter(str(logdir / name), filename_suffix=suffix)
    told = set()

    def add(tag, value, step, metadata):
        event = event_pb2.Event(wall_time=at + step, step=step)
        one = event.summary.value.add(tag=tag, tensor=make_tensor_proto(value))
        if tag not in told:
            one.metadata.CopyFrom(metadata)
            told.add(tag)
        writer.add_event(event)

    for step, value in scalars:
        add("epoch_loss", np.float32(value), step, scalar.create_summary_metadata("", ""))
    bins = np.array([[0.0, 1.0, 3.0], [1.0, 2.0, 1.0]])
    for step in (0, 1):
        add("weights", bins, step, histogram.create_summary_metadata("", ""))
    pictures = [b"5", b"4", png(1), png(2)]
    add("cats", np.array(pictures, object), 1, image.create_summary_metadata("", ""))
    add("notes", np.array(b"hello", object), 1, text.create_summary_metadata("", ""))
    clip = np.array([[wav(), b"label"]], object)
    add("voice", clip, 1, audio.create_summary_metadata("", "", audio.Encoding.WAV))
    writer.close()


def png(shade):
    content = io.BytesIO()
    Image.new("L", (5, 4), shade).save(content, "PNG")
    return content.getvalue()


def wav():
    content = io.BytesIO()
    with wave.open(content, "wb") as clip:
        clip.setnchannels(1)
        clip.setsampwidth(2)
        clip.setframerate(8000)
        clip.writeframes(b"\0\0" * 80)
    return content.getvalue()


def test_what_torch_writes_is_imported(logdir, store):
    write_with_torch(logdir)
    settle(logdir)

    done = import_runs("tensorboard", str(logdir), store=store)

    assert {one.name: one.outcome for one in done} == {"torch": "new", "torch/trial": "new"}
    run, trial = by_name(store)["torch"], by_name(store)["torch/trial"]
    assert (run.experiment, run.status) == ("logs", "FINISHED")
    assert points_of(run, "loss") == points_of(run, "as/tensor") == expected()
    (histogram,) = run.histograms
    assert (sum(histogram.counts), histogram.step, histogram.edges[0]) == (4, 3, 0.0)
    assert len(histogram.edges) == len(histogram.counts) + 1
    contents = {one.path: one for one in run.artifacts}
    with Image.open(io.BytesIO(contents["cat.png"].read_bytes())) as picture:
        assert (picture.size, contents["cat.png"].role, contents["cat.png"].step) == ((5, 4), "image", 2)
    assert contents["notes.md"].text() == "hello *there*"
    assert trial.params == {"lr": 0.1, "opt": "adam", "layers": 3.0}
    assert points_of(trial, "final") == [(0, str(float(np.float32(0.9))))]
    assert trial.status == "FINISHED"


def test_what_tensorboardx_writes_is_imported(logdir, store):
    write_with_tensorboardx(logdir)

    import_runs("tensorboard", str(logdir), store=store)

    assert points_of(by_name(store)["x"], "loss") == expected()


def test_tensors_of_tensorflow_2_are_imported_though_their_plugin_is_told_once(logdir, store):
    write_as_tensorflow_2(logdir)

    (done,) = import_runs("tensorboard", str(logdir), experiment="keras", store=store)

    run = by_name(store)["keras/train"]
    assert (run.experiment, done.left_out) == ("keras", {})
    assert points_of(run, "epoch_loss") == expected()
    assert [(one.step, one.counts, one.edges) for one in run.histograms] == [
        (0, [3.0, 1.0], [0.0, 1.0, 2.0]),
        (1, [3.0, 1.0], [0.0, 1.0, 2.0]),
    ]
    contents = {one.path: one.read_bytes() for one in run.artifacts}
    assert contents == {
        "cats/0.png": png(1),
        "cats/1.png": png(2),
        "notes.md": b"hello",
        "voice.wav": wav(),
    }


def test_all_event_files_of_a_folder_are_one_run_and_more_files_add_what_is_new(logdir, store):
    write_as_tensorflow_2(logdir, suffix=".1", scalars=SCALARS[:2])
    settle(logdir)
    (first,) = import_runs("tensorboard", str(logdir), store=store)
    write_as_tensorflow_2(logdir, suffix=".2", scalars=SCALARS[2:], at=1_700_000_100.0)
    settle(logdir)

    (second,) = import_runs("tensorboard", str(logdir), store=store)
    (third,) = import_runs("tensorboard", str(logdir), store=store)

    assert (first.run_id, second.outcome, second.points, third.outcome) == (
        second.run_id,
        "grown",
        3,
        "unchanged",
    )
    run = by_name(store)["keras/train"]
    assert points_of(run, "epoch_loss") == expected()
    assert run.status == "FINISHED"


def test_a_moved_log_folder_is_known_again(logdir, store):
    write_with_tensorboardx(logdir)
    (first,) = import_runs("tensorboard", str(logdir), store=store)
    moved = logdir.rename(logdir.with_name("moved"))

    (second,) = import_runs("tensorboard", str(moved / "x"), store=store)

    assert (second.run_id, second.outcome) == (first.run_id, "unchanged")


def test_a_copied_folder_that_was_gone_on_with_is_a_run_of_its_own(logdir, store):
    write_as_tensorflow_2(logdir, name="a", scalars=SCALARS[:2])
    shutil.copytree(logdir / "a", logdir / "b")
    write_as_tensorflow_2(logdir, name="b", suffix=".2", scalars=SCALARS[3:])

    done = import_runs("tensorboard", str(logdir), store=store)
    again = import_runs("tensorboard", str(logdir), store=store)

    assert [(one.name, one.points) for one in done] == [("a", 2), ("b", 4)]
    assert {one.outcome for one in again} == {"unchanged"}


def test_a_run_that_is_being_written_has_no_end_and_gets_one_once_it_is_quiet(logdir, store):
    write_as_tensorflow_2(logdir)
    import_runs("tensorboard", str(logdir), store=store)
    before = by_name(store)["keras/train"].status
    settle(logdir)

    import_runs("tensorboard", str(logdir), store=store)

    assert (before, by_name(store)["keras/train"].status) == ("RUNNING", "FINISHED")


def test_a_restart_behind_earlier_steps_takes_them_back_as_tensorboard_does(logdir, store):
    torch_writer = pytest.importorskip("torch.utils.tensorboard").SummaryWriter
    with torch_writer(str(logdir / "run"), filename_suffix=".1") as writer:
        for step in range(5):
            writer.add_scalar("loss", step, step)
    with torch_writer(str(logdir / "run"), purge_step=2, filename_suffix=".2") as writer:
        writer.add_scalar("loss", 20.0, 2)

    import_runs("tensorboard", str(logdir), store=store)

    assert points_of(by_name(store)["run"], "loss") == [(0, "0.0"), (1, "1.0"), (2, "20.0")]


def test_a_file_that_is_cut_off_gives_what_is_whole(logdir, store):
    write_as_tensorflow_2(logdir)
    (path,) = logdir.rglob("*tfevents*")
    content = path.read_bytes()
    end = 0
    for _ in range(4):  # header and three scalars
        (length,) = struct.unpack_from("<Q", content, end)
        end += 16 + length
    path.write_bytes(content[: end + 20])

    import_runs("tensorboard", str(logdir), store=store)

    assert points_of(by_name(store)["keras/train"], "epoch_loss") == expected(SCALARS[:3])


def test_what_mlobs_wrote_is_skipped_here_and_comes_under_its_own_id_elsewhere(logdir, tmp_path, store):
    backend = mlobs.backends.TensorBoard(str(logdir))
    tracker = mlobs.Tracker("churn", backends=[backend], store=store, delivery="thread")
    with tracker.start_run("own", params={"layers": [1, 2]}) as run:
        run.log_metric("loss", 0.5, step=3)

    (here,) = import_runs("tensorboard", str(logdir), store=store)
    (elsewhere,) = import_runs("tensorboard", str(logdir), store=tmp_path / "other")

    assert (here.run_id, here.outcome, elsewhere.run_id) == (run.id, "skipped", run.id)
    record = mlobs.load_run(run.id, store=tmp_path / "other")
    assert (record.experiment, record.name, record.status) == ("churn", "own", "FINISHED")
    assert (record.params, record.last_metrics) == ({"layers": [1, 2]}, {"loss": 0.5})


def test_a_folder_without_event_files_is_said(tmp_path, store):
    with pytest.raises(mlobs.UsageError, match="no event files"):
        import_runs("tensorboard", str(tmp_path), store=store)
    assert not store.exists()


def test_from_tensorboard_to_mlflow_each_value_is_equal_by_both_readers(logdir, store, tmp_path):
    write_with_torch(logdir)
    write_with_tensorboardx(logdir)
    write_as_tensorflow_2(logdir)
    settle(logdir)
    import_runs("tensorboard", str(logdir), store=store)

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    backend = mlobs.backends.MLflow(uri, artifact_location=str(tmp_path / "artifacts"))
    done = replay_runs(None, backend, store=store)

    assert all(one.is_settled and not one.report.rejected for one in done)
    client = client_of(uri)
    runs = {name: run for (_, name), run in runs_of(client).items()}
    assert set(runs) == {"torch", "torch/trial", "x", "keras/train"}
    for name, run in runs.items():
        assert histories(client, run) == accumulated(logdir / name), name
