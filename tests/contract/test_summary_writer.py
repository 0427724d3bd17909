"""mlobs' SummaryWriter in the place of torch's: the same script, the same values, every backend."""

import importlib.util
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.util import tensor_util

SCRIPTS = Path(__file__).parents[1] / "fixtures" / "summary_writer"
IMPORT = "from torch.utils.tensorboard import"
OURS = "from mlobs.integrations.tensorboard import"
HPARAMS = hparams_metadata.SESSION_START_INFO_TAG
LEAST_SCALARS = 4
FOLDER_END = 13  # characters of the run's id that TensorBoard's folder ends with
FLOAT32 = 2.0**-23


def needs(package):
    is_missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(is_missing, reason=f"{package} is not installed")


WRITERS = {"torch": IMPORT, "tensorboardX": "from tensorboardX import"}
PAIRS = [
    pytest.param(
        "train_numpy.py", "tensorboardX", id="numpy beside tensorboardX", marks=needs("tensorboardX")
    ),
    pytest.param("train_numpy.py", "torch", id="numpy beside torch", marks=needs("torch")),
    pytest.param("train_torch.py", "torch", id="torch beside torch", marks=needs("torch")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("script", "theirs"), PAIRS)
def test_a_script_with_one_import_changed_leaves_the_same_values_in_tensorboard_and_in_mlflow(
    tmp_path, script, theirs
):
    source = (SCRIPTS / script).read_text(encoding="utf-8")
    assert source.count(IMPORT) == 1
    run(tmp_path / "theirs", source.replace(IMPORT, WRITERS[theirs]))
    settings = {"MLOBS_BACKENDS": "mlflow,tensorboard", "MLOBS_FINISH_TIMEOUT_S": "200"}
    run(tmp_path / "ours", source.replace(IMPORT, OURS), **settings)

    expected, held = values_of(tmp_path / "theirs" / "runs"), values_of(tmp_path / "ours" / "runs")

    assert {name for _, name in expected} >= {"scalars", "histograms", "images", "text", "hparams"}
    for (run_name, kind), series in expected.items():
        for tag, points in series.items():
            same = COMPARE.get(kind)
            if same is not None:
                same(points, held_as(held, run_name, kind, tag), tag)
    assert hparams(held) == hparams(expected) != []
    in_mlflow(tmp_path / "ours", held)


def hparams(found):
    """The hyperparameters of each run that has some, as the HParams dashboard shows them."""
    return [series[HPARAMS] for (_, kind), series in found.items() if kind == "hparams" and HPARAMS in series]


def in_mlflow(folder, held):
    """The scalars are in MLflow too, point by point; TensorBoard keeps them as 32-bit floats."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    [experiment] = [one for one in client.search_experiments() if one.name != "Default"]
    names = set()
    for found in client.search_runs([experiment.experiment_id]):
        place = found.data.tags["mlobs.run_id"][-FOLDER_END:]
        [there] = [
            series for (name, kind), series in held.items() if kind == "scalars" and name.endswith(place)
        ]
        for tag, points in there.items():
            history = client.get_metric_history(found.info.run_id, tag)
            assert [(one.step, np.float32(one.value)) for one in history] == [
                (step, value) for step, value, _ in points
            ], tag
            names.add(tag)
    assert len(names) >= LEAST_SCALARS


def run(folder, source, **settings):
    folder.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLOBS_", "MLFLOW_"))}
    (folder / "script.py").write_text(source, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        env={**kept, **settings},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def values_of(logdir):
    """What TensorBoard's reader finds: by run and kind of plugin, tag -> [(step, value, time)]."""
    found = {}
    for folder in sorted({path.parent for path in logdir.rglob("*tfevents*")}):
        reader = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
        for tag in reader.Tags()["tensors"]:
            about = reader.SummaryMetadata(tag).plugin_data
            series = found.setdefault((folder.relative_to(logdir).as_posix(), about.plugin_name), {})
            if tag == HPARAMS:
                start = hparams_metadata.parse_session_start_info_plugin_data(about.content)
                series[tag] = {name: getattr(v, v.WhichOneof("kind")) for name, v in start.hparams.items()}
            else:
                series[tag] = [
                    (one.step, tensor_util.make_ndarray(one.tensor_proto), one.wall_time)
                    for one in reader.Tensors(tag)
                ]
    return found


def held_as(held, run_name, kind, tag):
    """What our run holds of a series of theirs: it has names of its own, which the page on it lists."""
    group = next((one for one in ("compare", "accuracy") if re.search(rf"/{one}[_/]\w+$", run_name)), None)
    if group is not None:
        tag = f"{group}/{re.split('[_/]', run_name)[-1]}"
    suffix = {"images": ".png/image_summary", "histograms": "/histogram_summary"}.get(kind, "")
    ours = tag.replace("/text_summary", ".md/text_summary") if kind == "text" else tag + suffix
    [points] = [series[ours] for (_, its_kind), series in held.items() if its_kind == kind and ours in series]
    return points


def same_scalars(theirs, ours, tag):
    assert [(step, float(value)) for step, value, _ in ours] == [
        (step, float(value)) for step, value, _ in theirs
    ], tag
    if theirs[0][2] < 1.75e9:  # the script said when
        assert [at for *_, at in ours] == [at for *_, at in theirs], tag


def same_histograms(theirs, ours, tag):
    """Theirs have an empty bin more at the left, 32-bit edges, and the extreme values as outer edges."""
    assert [step for step, *_ in ours] == [step for step, *_ in theirs]
    for (_, given, _), (_, held, _) in zip(theirs, ours, strict=True):
        wanted = given if given[0, 2] else given[1:]
        assert held[:, 2].tolist() == wanted[:, 2].tolist(), tag
        assert held[1:, 0] == pytest.approx(wanted[1:, 0], rel=FLOAT32), tag
        assert held[0, 0] <= wanted[0, 0] + FLOAT32 * abs(wanted[0, 0])
        assert held[-1, 1] >= wanted[-1, 1] - FLOAT32 * abs(wanted[-1, 1])


def same_images(theirs, ours, tag):
    """Floats are cut to 8 bits there, and rounded here: they differ by 1 of 255 at most."""
    assert [step for step, *_ in ours] == [step for step, *_ in theirs]
    for (_, wanted, _), (_, held, _) in zip(theirs, ours, strict=True):
        expected, pixels = pixels_of(wanted[2]), pixels_of(held[2])
        assert pixels.shape == expected.shape, tag
        exact = tag not in ("heat", "sixteen_digits", "first_batch", "filters/first", "boxes")
        assert np.abs(pixels - expected).max() <= (0 if exact else 1), tag


def same_texts(theirs, ours, tag):
    assert [(step, value.item()) for step, value, _ in ours] == [
        (step, value.item()) for step, value, _ in theirs
    ], tag


COMPARE = {
    "scalars": same_scalars,
    "histograms": same_histograms,
    "images": same_images,
    "text": same_texts,
}


def pixels_of(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
