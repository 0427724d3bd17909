"""Every kind of thing at Application Insights: the values, read with Microsoft's own query client."""

import base64
import hashlib
import io
import json
import time

import numpy as np
import pandas as pd
import pytest
from appinsights_credential import make
from appinsights_service import Service
from azure.monitor.query import LogsQueryClient
from PIL import Image

import mlobs
from mlobs.events import Dataset, ModelFingerprint, Snapshot

pytestmark = pytest.mark.filterwarnings("ignore:.*utcnow.*:DeprecationWarning")
SAMPLES = np.random.default_rng(3).integers(0, 256, (40, 30, 3), dtype=np.uint8)
LARGE = bytes(range(256)) * 400
CONFUSION = [[50, 2, 1], [3, 40, 7], [0, 5, 45]]
TABLE = pd.DataFrame({"id": [1, 2], "score": [0.5, np.nan], "name": ["a|b", None]})
COUNTS, EDGES = [1.0, 3.0, 2.0], [0.0, 0.5, 1.0, 2.0]


class Held:
    """What the service holds of one run with one of each kind, as its query client gives it."""

    def __init__(self, service, run):
        self.report = run.delivery()["appinsights"]
        self._client = LogsQueryClient(make(), endpoint=service.endpoint)
        self._run_id = run.id
        columns = "name = name, properties = customDimensions"
        self.metrics = self._ask("customMetrics", f"{columns}, value = value")
        self.events = self._ask("customEvents", f"{columns}, measurements = customMeasurements")
        self.traces = self._ask(
            "traces", "message = message, properties = customDimensions, level = severityLevel"
        )
        self.exceptions = self._ask(
            "exceptions", "name = type, properties = customDimensions, text = outerMessage"
        )

    def _ask(self, table, columns):
        query = f"{table}\n| where operation_Id == '{self._run_id}'\n| project {columns}"
        answer = self._client.query_resource("/subscriptions/s", query, timespan=None, enforce_https=False)
        rows = [dict(zip(answer.tables[0].columns, row, strict=True)) for row in answer.tables[0].rows]
        for row in rows:
            for name in row.keys() & {"properties", "measurements"}:
                row[name] = json.loads(row[name])
        return rows

    def of(self, name, /, **properties):
        """The properties of the events of a name, those that have these among them."""
        found = [row["properties"] for row in self.events if row["name"] == name]
        return [one for one in found if properties.items() <= one.items()]

    def merged(self, name):
        """The values of params or tags, as the query of the docs merges them."""
        values = {}
        for one in self.of(f"mlobs.{name}"):
            values |= json.loads(one[name])
        return values


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid")
    service = Service()
    tracker = mlobs.Tracker(
        "grid", backends=[mlobs.backends.AppInsights(service.connection_string)], store=folder / "store",
        on_error="raise", delivery="thread",
    )  # fmt: skip
    (folder / "large.bin").write_bytes(LARGE)
    with tracker.start_run(params={"lr": 0.1, "odd%name": "x"}, tags={"team": "x"}) as run:
        for step in (0, 7):
            run.log_metrics({"loss": 0.5 + step, "nan": float("nan"), "inf": float("inf")}, step=step)
            run.log_image("val/sample", SAMPLES + np.uint8(step), step=step)
            run.log_histogram("weights", counts=COUNTS, edges=EDGES, step=step)
        run.log_figure("curve", _figure(), step=2)
        run.log_table("predictions", TABLE)
        run.log_matrix("attention", [[0.25, 0.5], [0.125, 1.0]], rows=["q0", "q1"])
        run.log_confusion_matrix("cm", CONFUSION, ["cat", "dog", "cow"])
        run.log_text("notes", "hello\nworld")
        run.log_dict("config", {"depth": [1, 2]})
        run.log_artifact(folder / "large.bin", "data")
        run.log_model("model", {"weights": [1, 2]}, serializer=lambda one, path: path.write_text(str(one)))
        at = run._opened.facts.at
        for event in (
            Dataset(at, "train", "v3", "b3:" + "ab" * 32, "rows", "train", "s3://x/y", 100, {"a": "int64"}),
            Snapshot(at, "environment", {"python": "3.11"}),
            ModelFingerprint(at, "model", "b3:cd", "v1"),
            mlobs.events.Log(at, "a line", "ERROR", "train", exception="Traceback ...\nKeyError: 'x'"),
            mlobs.events.Rewind(at, 9),
        ):
            run._opened.append(event)
    deadline = time.monotonic() + 120  # the process's budget for waiting may be spent by other tests
    while not run.delivery()["appinsights"].is_settled:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield Held(service, run)
    service.stop()


def _figure():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 1), dpi=50)
    figure.subplots().plot([1, 2, 3])
    return figure


def pixels(data_uri):
    head, _, data = data_uri.partition(",")
    assert head.endswith(";base64")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_all_of_it_is_settled(held):
    assert held.report.is_settled
    assert held.report.rejected == held.report.skipped == 0


def test_metrics(held):
    points = [(row["name"], row["properties"]["step"], row["value"]) for row in held.metrics]
    assert sorted(points) == [("loss", "0", 0.5), ("loss", "7", 7.5)]
    others = [(one["metric"], one["value"]) for one in held.of("mlobs.metric.nonfinite", step="7")]
    assert sorted(others) == [("inf", "inf"), ("nan", "nan")]


def test_params_and_tags(held):
    assert held.merged("params") == {"lr": 0.1, "odd%name": "x"}
    assert held.merged("tags") == {"team": "x"}


@pytest.mark.parametrize("step", [0, 7])
def test_images_of_a_step(held, step):
    (one,) = held.of("mlobs.image", path="val/sample.png", step=str(step))
    assert np.array_equal(pixels(one["thumbnail"]), SAMPLES + np.uint8(step))
    assert one["is_whole"] == "true"


def test_figures(held):
    (one,) = held.of("mlobs.figure", path="curve.png", step="2")
    (row,) = [row for row in held.events if row["properties"] == one]
    height, width, _ = pixels(one["thumbnail"]).shape
    assert (row["measurements"]["height_px"], row["measurements"]["width_px"]) == (height, width)
    assert len(one["sha256"]) == 64


@pytest.mark.parametrize(
    ("name", "path", "rows"),
    [
        ("mlobs.table", "predictions.json", [[1, 0.5, "a|b"], [2, None, None]]),
        ("mlobs.matrix", "attention.json", [[0.25, 0.5], [0.125, 1.0]]),
        ("mlobs.confusion_matrix", "cm.json", CONFUSION),
    ],
)
def test_tables_and_matrices_are_rows_that_kql_expands(held, name, path, rows):
    (one,) = held.of(name, path=path)
    assert json.loads(one["data"]) == rows
    assert (one["row0"], one["block"], one["blocks"]) == ("0", "0", "1")
    frame = json.loads(one["frame"])
    assert frame in (
        {"columns": ["id", "score", "name"], "data": None},
        {"matrix": None, "rows": ["q0", "q1"]},
        {"matrix": None, "labels": ["cat", "dog", "cow"]},
    )


@pytest.mark.parametrize("step", ["0", "7"])
def test_histograms(held, step):
    (one,) = held.of("mlobs.histogram", name="weights", step=step)
    assert (json.loads(one["counts"]), json.loads(one["edges"])) == (COUNTS, EDGES)


def test_texts_and_dicts(held):
    assert [one["data"] for one in held.of("mlobs.text", path="notes.txt")] == ["hello\nworld"]
    assert [json.loads(one["data"]) for one in held.of("mlobs.text", path="config.json")] == [
        {"depth": [1, 2]}
    ]


def test_files_and_models(held):
    (large,) = held.of("mlobs.file", path="data/large.bin")
    assert large["sha256"] == hashlib.sha256(LARGE).hexdigest()
    assert "data" not in large
    assert [one["data"] for one in held.of("mlobs.model")] == ["{'weights': [1, 2]}"]


def test_logs_and_exceptions(held):
    (line,) = held.traces
    assert (line["message"], line["level"], line["properties"]["logger"]) == ("a line", 3, "train")
    (failure,) = held.exceptions
    assert (failure["name"], failure["text"]) == ("KeyError", "'x'")


def test_datasets_snapshots_fingerprints_and_rewinds(held):
    (dataset,) = held.of("mlobs.dataset")
    assert (dataset["name"], dataset["version"], dataset["rows"]) == ("train", "v3", "100")
    assert dataset["fingerprint"] == "b3:" + "ab" * 32
    (snapshot,) = held.of("mlobs.snapshot", part="environment")
    assert json.loads(snapshot["facts"]) == {"python": "3.11"}
    assert held.of("mlobs.model_fingerprint")[0]["fingerprint"] == "b3:cd"
    assert held.of("mlobs.rewind")[0]["from_step"] == "9"


def test_start_and_status(held):
    (start,) = held.of("mlobs.run.start")
    assert start["experiment"] == "grid"
    (end,) = held.of("mlobs.run.end")
    assert end["status"] == "FINISHED"
