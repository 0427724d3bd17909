"""Every kind of thing at every built-in backend: the values, read back with the vendor's own reader."""

import io
import json
import math
import pickle
import re
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from blake3 import blake3
from mlflow import MlflowClient
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

import mlobs
from mlobs.events import Dataset, Log, ModelFingerprint, Snapshot

# MLflow 3.17 on SQLAlchemy 2.1: its own query, deprecated there
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")

SAMPLES = np.random.default_rng(3).integers(0, 256, (40, 30, 3), dtype=np.uint8)
LARGE = bytes(range(256)) * 400
CONFUSION = [[50, 2, 1], [3, 40, 7], [0, 5, 45]]
LABELS = ["cat", "dog", "cow"]
MATRIX = [[0.25, 0.5], [0.125, 1.0]]
TABLE = pd.DataFrame({"id": [1, 2], "score": [0.5, np.nan], "name": ["a|b", None]})
COUNTS, EDGES = [1.0, 3.0, 2.0], [0.0, 0.5, 1.0, 2.0]


class Held:
    """What the two backends hold of one run with one of each kind."""

    def __init__(self, folder: Path, run: mlobs.Run) -> None:
        self.report = run.delivery()
        self.client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
        self.ref = run.get_backend_ref("mlflow").id
        self.run = self.client.get_run(self.ref)
        self._downloads = folder / "downloads"
        self._downloads.mkdir()
        (place,) = {path.parent for path in (folder / "board").rglob("events.out.tfevents.*")}
        size = dict.fromkeys(("scalars", "tensors", "images", "histograms"), 0)
        self.board = EventAccumulator(str(place), size_guidance=size)
        self.board.Reload()

    def file(self, path: str) -> bytes:
        return Path(self.client.download_artifacts(self.ref, path, str(self._downloads))).read_bytes()

    def files(self, folder: str | None = None) -> list[str]:
        return [one.path for one in self.client.list_artifacts(self.ref, folder)]

    def text(self, tag: str, step: int = 0) -> str:
        """The text that TensorBoard's Text dashboard shows."""
        found = [one for one in self.board.Tensors(f"{tag}/text_summary") if one.step == step]
        return tensor_util.make_ndarray(found[-1].tensor_proto).item().decode()

    def picture(self, tag: str, step: int = 0) -> np.ndarray:
        """The image that TensorBoard's Images dashboard shows."""
        (found,) = [one for one in self.board.Images(f"{tag}/image_summary") if one.step == step]
        return pixels(found.encoded_image_string)


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def cells(markdown: str) -> list[list[str]]:
    """The cells of a markdown table, without its rule."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in re.split(r" \| ", line[1:-1])] for line in lines]
    return [row for row in rows if set(row) != {"---"}]


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid")
    mlflow_backend = mlobs.backends.MLflow(
        f"sqlite:///{folder}/mlflow.db", artifact_location=str(folder / "artifacts")
    )
    board = mlobs.backends.TensorBoard(str(folder / "board"))
    tracker = mlobs.Tracker(
        "grid", backends=[mlflow_backend, board], store=folder / "store", on_error="raise", delivery="thread"
    )
    (folder / "large.bin").write_bytes(LARGE)
    with tracker.start_run(params={"lr": 0.1, "odd%name": "x"}, tags={"team": "x"}) as run:
        for step in (0, 7):
            run.log_metrics({"loss": 0.5 + step, "nan": float("nan"), "inf": float("inf")}, step=step)
            run.log_image("val/sample", SAMPLES + np.uint8(step), step=step)
            run.log_histogram("weights", counts=COUNTS, edges=EDGES, step=step)
        run.log_image("still", SAMPLES)
        run.log_figure("curve", _figure(), step=2)
        run.log_table("predictions", TABLE)
        run.log_table("errors", [])
        run.log_matrix("attention", MATRIX, rows=["q0", "q1"], columns=["k0", "k1"])
        run.log_confusion_matrix("cm", CONFUSION, LABELS)
        run.log_text("notes", "hello\nworld")
        run.log_dict("config", {"depth": [1, 2]})
        run.log_artifact(folder / "large.bin", "data")
        run.log_model("model", {"weights": [1, 2]}, serializer=lambda one, path: path.write_text(str(one)))
        _log_what_needs_packages(run, folder)
        at = run._opened.facts.at
        run._opened.append(
            Dataset(at, "train", "v3", "b3:" + "ab" * 32, "rows", "train", "s3://x/y", 100, {"a": "int64"})
        )
        run._opened.append(Snapshot(at, "environment", {"python": "3.11"}))
        run._opened.append(ModelFingerprint(at, "model", "b3:cd", "v1"))
        run._opened.append(Log(at, "the loss is high", "WARNING", "train"))
        run._opened.append(Log(at + 1, "epoch 1", stream="stdout"))
        run._opened.append(Log(at + 2, "it fails", "ERROR", "train", exception="Traceback: no"))
    assert all(one.is_settled and one.rejected == one.skipped == 0 for one in run.delivery().values())
    return Held(folder, run)


def _log_what_needs_packages(run, folder):
    """All of them are among the development packages."""
    import plotly.graph_objects as plotly
    from sklearn.linear_model import LogisticRegression

    run.log_figure("page", plotly.Figure(plotly.Scatter(x=[1, 2], y=[3, 4])))
    run.log_table("large.parquet", TABLE)
    Image.fromarray(SAMPLES).save(folder / "photo.jpg")
    run.log_image("photo", folder / "photo.jpg", step=4)
    run.log_model("classifier", LogisticRegression().fit([[0.0], [1.0]], [0, 1]))


def _figure():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 1), dpi=50)
    figure.subplots().plot([1, 2, 3])
    return figure


def test_metrics(held):
    history = held.client.get_metric_history(held.ref, "loss")
    assert [(one.step, one.value) for one in history] == [(0, 0.5), (7, 7.5)]
    assert np.isnan([one.value for one in held.client.get_metric_history(held.ref, "nan")]).all()
    assert [(one.step, one.value) for one in held.board.Scalars("loss")] == [(0, 0.5), (7, 7.5)]
    assert [one.value for one in held.board.Scalars("inf")] == [float("inf")] * 2


def test_params_and_tags(held):
    assert held.run.data.params == {"lr": "0.1", "odd_x25_name": "x"}
    assert held.run.data.tags["team"] == "x"
    assert cells(held.text("params"))[1:] == [["`lr`", "`0.1`"], ["`odd%name`", "`x`"]]
    assert cells(held.text("tags"))[1:] == [["`team`", "`x`"]]


@pytest.mark.parametrize("step", [0, 7])
def test_images_of_a_step(held, step):
    full, small = sorted(
        (one for one in held.files("images") if one.startswith(f"images/val~sample+step+{step}+")),
        key=lambda path: path.endswith("+compressed.webp"),
    )
    assert np.array_equal(pixels(held.file(full)), SAMPLES + np.uint8(step))
    assert pixels(held.file(small)).shape == (256, 192, 3)
    assert held.run.data.tags["mlflow.loggedImages"] == "True"
    assert np.array_equal(held.picture("val/sample.png", step), SAMPLES + np.uint8(step))


def test_an_image_without_a_step(held):
    assert np.array_equal(pixels(held.file("still.png")), SAMPLES)
    assert np.array_equal(held.picture("still.png"), SAMPLES)


def test_figures(held):
    drawn = pixels(held.file("curve@step2.png"))
    assert drawn.shape[2] == 4
    assert np.array_equal(held.picture("curve.png", 2), drawn)


@pytest.fixture
def tracking_uri(held):
    """MLflow's own default, which `load_table` needs."""
    mlflow.set_tracking_uri(held.client.tracking_uri)
    yield
    mlflow.set_tracking_uri(None)


@pytest.mark.usefixtures("tracking_uri")
def test_tables(held):
    frame = held.client.load_table(held.run.info.experiment_id, "predictions.json", [held.ref])
    pd.testing.assert_frame_equal(frame, TABLE, check_dtype=False)
    assert cells(held.text("predictions.json")) == [
        ["id", "score", "name"],
        ["1", "0.5", "a\\|b"],
        ["2", "", ""],
    ]


@pytest.mark.usefixtures("tracking_uri")
def test_a_table_of_nothing(held):
    frame = held.client.load_table(held.run.info.experiment_id, "errors.json", [held.ref])
    assert frame.empty
    assert held.text("errors.json")


def test_matrices(held):
    assert json.loads(held.file("attention.json"))["matrix"] == MATRIX
    assert cells(held.text("attention.json")) == [
        ["", "k0", "k1"],
        ["q0", "0.25", "0.5"],
        ["q1", "0.125", "1"],
    ]
    assert np.array_equal(held.picture("attention.png"), pixels(held.file("attention.png")))


def test_confusion_matrices(held):
    assert json.loads(held.file("cm.json")) == {"matrix": CONFUSION, "labels": LABELS}
    shown = cells(held.text("cm.json"))
    assert shown[0] == ["actual / predicted", *LABELS]
    assert [[int(one) for one in row[1:]] for row in shown[1:]] == CONFUSION
    colours = {tuple(one) for one in held.picture("cm.png").reshape(-1, 3).tolist()}
    assert {(253, 231, 37), (68, 1, 84)} <= colours  # the greatest count and none
    assert np.array_equal(held.picture("cm.png"), pixels(held.file("cm.png")))


@pytest.mark.parametrize("step", [0, 7])
def test_histograms(held, step):
    document = json.loads(held.file(f"mlobs/histograms/weights@step{step}.json"))
    assert (document["counts"], document["edges"]) == (COUNTS, EDGES)
    (drawn,) = [
        one for one in held.files("images") if f"~weights+step+{step}+" in one and one.endswith(".png")
    ]
    blue = (pixels(held.file(drawn)) == (49, 104, 142)).all(axis=2)
    assert blue.any()
    tensors = {one.step: one for one in held.board.Tensors("weights/histogram_summary")}
    bins = tensor_util.make_ndarray(tensors[step].tensor_proto)
    assert bins.tolist() == [list(one) for one in zip(EDGES, EDGES[1:], COUNTS, strict=False)]


def test_texts_and_dicts(held):
    assert held.file("notes.txt") == b"hello\nworld"
    assert json.loads(held.file("config.json")) == {"depth": [1, 2]}
    assert held.text("notes.txt") == "```\nhello\nworld\n```"
    assert json.loads(held.text("config.json").strip("`\n")) == {"depth": [1, 2]}


def test_files_and_models(held):
    assert held.file("data/large.bin") == LARGE
    assert held.file("model/model") == b"{'weights': [1, 2]}"
    shown = dict(cells(held.text("data/large.bin")))
    assert shown["size"] == f"{len(LARGE):,} bytes"
    assert shown["blake3"] == blake3(LARGE).hexdigest()
    assert dict(cells(held.text("model/model")))["role"] == "model"


def test_datasets(held):
    (given,) = held.run.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("train", ("b3:" + "ab" * 32)[:36])
    assert json.loads(given.dataset.source) == {"uri": "s3://x/y"}
    assert json.loads(given.dataset.profile)["rows"] == 100
    assert {one.key: one.value for one in given.tags}["mlflow.data.context"] == "train"
    shown = json.loads(held.text("mlobs/datasets/train.json").strip("`\n"))
    assert (shown["version"], shown["fingerprint"]) == ("v3", "b3:" + "ab" * 32)


def test_snapshots_and_fingerprints(held):
    assert json.loads(held.file("mlobs/snapshot/environment.json"))["facts"] == {"python": "3.11"}
    assert json.loads(held.file("mlobs/model_fingerprints/model.json"))["fingerprint"] == "b3:cd"
    shown = json.loads(held.text("mlobs/model_fingerprints/model.json").strip("`\n"))
    assert (shown["fingerprint"], shown["scheme"]) == ("b3:cd", "v1")
    assert json.loads(held.text("mlobs/snapshot/environment.json").strip("`\n"))["facts"] == {
        "python": "3.11"
    }


def test_logs(held):
    [path] = held.files("logs")
    lines = held.file(path).decode().splitlines()
    assert [re.sub(r"^\d{4}-\S+ \S+ ", "", line) for line in lines] == [
        "WARNING train: the loss is high",
        "stdout: epoch 1",
        "ERROR train: it fails",
        "Traceback: no",
    ]
    assert held.text("log") == "```\n" + "\n".join(lines) + "\n```"


def test_infinities(held):
    history = held.client.get_metric_history(held.ref, "inf")
    assert [one.value for one in history] == [sys.float_info.max] * 2
    assert held.run.data.tags["mlobs.infinite.inf"] == "inf at step 0; there may be more"
    assert [one.value for one in held.board.Scalars("inf")] == [math.inf] * 2


def test_pages_of_plotly(held):
    page = held.file("page.html")
    assert b'"y":[3,4]' in page
    shown = dict(cells(held.text("page.html")))
    assert (shown["type"], shown["blake3"]) == ("text/html", blake3(page).hexdigest())


@pytest.mark.usefixtures("tracking_uri")
def test_tables_in_parquet(held):
    pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(held.file("large.parquet"))), TABLE)
    frame = held.client.load_table(held.run.info.experiment_id, "large.parquet", [held.ref])
    pd.testing.assert_frame_equal(frame, TABLE)
    shown = dict(cells(held.text("large.parquet")))
    assert shown["blake3"] == blake3(held.file("large.parquet")).hexdigest()


def test_a_photo_of_a_step(held):
    photo = held.file("photo@step4.jpg")
    assert Image.open(io.BytesIO(photo)).format == "JPEG"
    assert np.array_equal(held.picture("photo.jpg", 4), pixels(photo))


def test_a_model_of_a_framework(held):
    content = held.file("classifier/model.pkl")
    assert pickle.loads(content).predict([[-3.0], [4.0]]).tolist() == [0, 1]
    shown = dict(cells(held.text("classifier/model.pkl")))
    assert shown["blake3"] == blake3(content).hexdigest()
    assert shown["format"] == "scikit-learn pickle"


def test_going_back_in_steps(tmp_path):
    backends = [
        mlobs.backends.MLflow(
            f"sqlite:///{tmp_path}/mlflow.db", artifact_location=str(tmp_path / "artifacts")
        ),
        mlobs.backends.TensorBoard(str(tmp_path / "board")),
    ]
    tracker = mlobs.Tracker("back", backends=backends, store=tmp_path / "store", delivery="thread")
    with tracker.start_run("r") as run:
        for step in range(4):
            run.log_metric("loss", float(step), step=step)
    with tracker.start_run("r", run_id=run.id, resume="must", from_step=2) as run:
        run.log_metric("loss", 20.0, step=2)
    held = Held(tmp_path, run)

    history = held.client.get_metric_history(held.ref, "loss")
    assert sorted((one.step, one.value) for one in history) == [(0, 0), (1, 1), (2, 2), (2, 20), (3, 3)]
    assert "steps from 2 on" in held.run.data.tags["mlobs.rewound"]
    assert [(one.step, one.value) for one in held.board.Scalars("loss")] == [(0, 0), (1, 1), (2, 20)]


def test_status(held):
    assert held.run.info.status == "FINISHED"
    assert held.text("status").startswith("**FINISHED**")


def test_what_mlflow_holds_comes_back_as_the_events_that_were_recorded(held):
    events = list(mlobs.backends.MLflow(held.client.tracking_uri).source().read(held.ref))
    images = {(one.path, one.step): one for one in events if getattr(one, "role", "") == "image"}
    assert np.array_equal(pixels(images["val/sample.png", 7].data), SAMPLES + np.uint8(7))
    (dataset,) = [one for one in events if isinstance(one, Dataset)]
    assert (dataset.version, dataset.fingerprint, dataset.columns) == (
        "v3",
        "b3:" + "ab" * 32,
        {"a": "int64"},
    )
