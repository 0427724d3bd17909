"""Every kind of thing at Azure ML, from a program's calls to what the SDK's own Run reads."""

import json

import numpy as np
import pandas as pd
import pytest
from azureml_service import GROUP, SUBSCRIPTION, WORKSPACE, azureml_service, token
from test_azureml import sdk_run
from test_grid import (
    CONFUSION,
    COUNTS,
    EDGES,
    LABELS,
    LARGE,
    MATRIX,
    SAMPLES,
    TABLE,
    _figure,
    pixels,
)

import mlobs
from mlobs.events import Dataset, Histogram, Log, ModelFingerprint, Snapshot

pytest.importorskip("azureml.core", reason="pip install 'mlobs[azureml]'")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


class Held:
    """What the workspace holds of one run with one of each kind."""

    def __init__(self, service, backend, run, folder):
        self.service, self.report = service, run.delivery()["azureml"]
        self.ref = f"grid/{run.get_backend_ref('azureml').id}"
        self.run = sdk_run(service, self.ref)
        self.metrics = self.run.get_metrics()
        self.events = list(backend.source().read(self.ref))
        self._folder = folder

    def file(self, path):
        self.run.download_file(path, str(self._folder / "got"))
        return (self._folder / "got").read_bytes()


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid")
    (folder / "large.bin").write_bytes(LARGE)
    with azureml_service() as service:
        options = {"token": token(), "resource_manager": service.uri}
        backend = mlobs.backends.AzureML(WORKSPACE, SUBSCRIPTION, GROUP, **options)
        tracker = mlobs.Tracker(
            "grid", backends=[backend], store=folder / "store", on_error="raise", delivery="thread"
        )
        with tracker.start_run(params={"lr": 0.1, "odd%name": "x"}, tags={"team": "x"}) as run:
            for step in (0, 7):
                run.log_metrics({"loss": 0.5 + step, "nan": float("nan"), "inf": float("inf")}, step=step)
                run.log_image("val/sample", SAMPLES + np.uint8(step), step=step)
                run.log_histogram("weights", counts=COUNTS, edges=EDGES, step=step)
            run.log_figure("curve", _figure(), step=2)
            run.log_table("predictions", TABLE)
            run.log_matrix("attention", MATRIX, rows=["q0", "q1"], columns=["k0", "k1"])
            run.log_confusion_matrix("cm", CONFUSION, LABELS)
            run.log_text("notes", "hello\nworld")
            run.log_dict("config", {"depth": [1, 2]})
            run.log_artifact(folder / "large.bin", "data")
            run.log_model("model", {"weights": [1]}, serializer=lambda one, path: path.write_text(str(one)))
            at = run._opened.facts.at
            run._opened.append(
                Dataset(
                    at, "train", "v3", "b3:" + "ab" * 32, "rows", "train", "s3://x/y", 100, {"a": "int64"}
                )
            )
            run._opened.append(Log(at, "a line", "WARNING", "train"))
            run._opened.append(Snapshot(at, "environment", {"python": "3.11"}))
            run._opened.append(ModelFingerprint(at, "model", "b3:cd", "v1"))
        yield Held(service, backend, run, folder)


def test_everything_is_answered_for(held):
    assert held.report.is_settled
    assert held.report.rejected == held.report.skipped == 0


def test_metrics(held):
    assert held.metrics["loss"] == [0.5, 7.5]
    assert held.metrics["inf"] == [1.7976931348623157e308] * 2
    assert "nan" not in held.metrics
    assert {"mlobs.nan.nan", "mlobs.infinite.inf"} <= set(held.run.get_tags())


def test_params_and_tags(held):
    properties = held.run.get_properties()
    assert (properties["param.lr"], properties["param.odd_x25_name"]) == ("0.1", "x")
    assert held.run.get_tags()["team"] == "x"


@pytest.mark.parametrize("step", [0, 7])
def test_images(held, step):
    assert np.array_equal(pixels(held.file(f"val/sample@step{step}.png")), SAMPLES + np.uint8(step))
    assert held.metrics["val/sample.png"].endswith("/val/sample@step0.png")


def test_figures(held):
    assert pixels(held.file("curve@step2.png")).shape[2] == 4


def test_tables(held):
    document = json.loads(held.file("predictions.json"))
    frame = pd.DataFrame(document["data"], columns=document["columns"])
    assert frame["id"].tolist() == [1, 2]
    assert held.metrics["predictions.json"] == {"id": [1, 2], "score": ["0.5", ""], "name": ["a|b", ""]}


def test_matrices(held):
    assert json.loads(held.file("attention.json"))["matrix"] == MATRIX
    assert pixels(held.file("attention.png")).ndim == 3


def test_confusion_matrices(held):
    assert json.loads(held.file("cm.json")) == {"matrix": CONFUSION, "labels": LABELS}
    shown = json.loads(held.file("mlobs/azureml/cm.json"))
    assert shown["data"] == {"class_labels": LABELS, "matrix": CONFUSION}


def test_histograms(held):
    assert held.metrics["weights.histogram"]["count"] == COUNTS * 2
    found = [(one.step, one.counts, one.edges) for one in held.events if isinstance(one, Histogram)]
    assert found == [(0, COUNTS, EDGES), (7, COUNTS, EDGES)]


def test_texts_and_dicts(held):
    assert held.file("notes.txt") == b"hello\nworld"
    assert json.loads(held.file("config.json")) == {"depth": [1, 2]}


def test_files_and_models(held):
    assert held.file("data/large.bin") == LARGE
    assert held.file("model/model") == b"{'weights': [1]}"


def test_logs(held):
    (line,) = [one for one in held.events if isinstance(one, Log)]
    assert (line.message, line.level, line.logger) == ("a line", "WARNING", "train")


def test_datasets(held):
    (dataset,) = [one for one in held.events if isinstance(one, Dataset)]
    assert (dataset.version, dataset.fingerprint, dataset.columns) == (
        "v3",
        "b3:" + "ab" * 32,
        {"a": "int64"},
    )
    assert held.run.get_tags()["mlobs.dataset.train"] == f"v3, train, rows b3:{'ab' * 32}"


def test_snapshots_and_fingerprints(held):
    assert json.loads(held.file("mlobs/snapshot/environment.json"))["facts"] == {"python": "3.11"}
    assert json.loads(held.file("mlobs/model_fingerprints/model.json"))["fingerprint"] == "b3:cd"


def test_status(held):
    assert held.run.get_status() == "Completed"
