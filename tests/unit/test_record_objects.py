"""What was logged comes back as an object, by the name it was logged under."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import mlobs
from mlobs.errors import UsageError


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    folder = tmp_path_factory.mktemp("objects")
    (folder / "model.bin").write_bytes(b"\0weights")
    with mlobs.Tracker("churn", store=folder / "store", backends=[]).start_run("base") as run:
        for step in (1, 2):
            run.log_image("sample", np.full((20, 30, 3), 40 * step, np.uint8), step=step)
        run.log_table("predictions", pd.DataFrame({"y": [1, 2], "name": ["a", "b"]}))
        run.log_table("scores.parquet", pd.DataFrame({"y": [0.5]}))
        run.log_matrix("attention", [[0.5, float("nan")]], rows=["r"], columns=["a", "b"])
        run.log_confusion_matrix("cm", [[3, 1], [0, 2]], labels=["no", "yes"])
        run.log_text("notes", "as\nit was")
        run.log_artifact(folder / "model.bin")
        run.log_figure("roc", _figure())
        run_id = run.id
    return mlobs.load_run(run_id, store=folder / "store")


def _figure():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 1), dpi=50)
    figure.subplots().plot([0, 1], [0, 1])
    return figure


def test_a_table_is_a_frame(record):
    pd.testing.assert_frame_equal(
        record.table("predictions"), pd.DataFrame({"y": [1, 2], "name": ["a", "b"]}), check_dtype=False
    )
    assert record.table("predictions.json").equals(record.table("predictions"))
    assert record.table("scores")["y"].tolist() == [0.5]


def test_an_image_is_one_of_a_step_or_the_latest(record):
    assert record.image("sample", step=1).getpixel((0, 0)) == (40, 40, 40)
    assert record.image("sample").getpixel((0, 0)) == (80, 80, 80)
    assert record.image("sample.png").size == (30, 20)


def test_a_matrix_is_a_frame_with_its_labels_and_its_heat_map_an_image(record):
    assert record.matrix("attention").loc["r", "a"] == 0.5
    assert np.isnan(record.matrix("attention").loc["r", "b"])
    assert record.matrix("cm").loc["no"].tolist() == [3.0, 1.0]
    assert isinstance(record.image("cm"), Image.Image)


def test_a_figure_is_a_picture_or_a_page(record):
    assert record.figure("roc").image().format == "PNG"
    assert record.image("roc").size == record.figure("roc").image().size
    with pytest.raises(UsageError, match="expected a picture"):
        record.artifact("notes").image()


def test_any_artifact_is_found_by_its_path(record):
    assert record.artifact("model.bin").read_bytes() == b"\0weights"
    assert record.artifact("model").path == "model.bin"
    assert record.artifact("notes.txt").text() == "as\nit was"


@pytest.mark.parametrize(
    ("what", "name", "step", "says"),
    [
        ("table", "predictons", None, "did you mean 'predictions'"),
        ("table", "cm", None, "there is predictions, scores"),
        ("image", "sample", 7, "of step 7; there is 1, 2"),
        ("table", "predictions", 1, "it was logged without a step"),
        ("figure", "roK", None, "did you mean 'roc'"),
        ("artifact", "model.bni", None, "did you mean 'model.bin'"),
    ],
)
def test_a_name_that_is_not_there_is_answered_with_those_that_are(record, what, name, step, says):
    with pytest.raises(UsageError, match=says):
        getattr(record, what)(name, step)
