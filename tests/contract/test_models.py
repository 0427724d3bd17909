"""Models of the real frameworks: saved by themselves, read back by themselves, and the same."""

import importlib.util
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

import mlobs

RNG = np.random.default_rng(3)
INPUTS, TARGET = RNG.normal(size=(60, 4)), RNG.integers(0, 2, 60)


@pytest.fixture
def kept(tmp_path):
    """Log a model, and return its files by name, as they lie in the store, and what is said of them."""

    def keep(model, **options):
        tracker = mlobs.Tracker("models", store=tmp_path / "store", on_error="raise")
        with tracker.start_run() as run:
            run.log_model("classifier", model, **options)
        found = mlobs.load_run(run.id, store=tmp_path / "store").artifacts
        assert {one.role for one in found} == {"model"}
        folder = tmp_path / "read"
        for one in found:
            path = folder / Path(one.path).relative_to("classifier")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(one.read_bytes())
        return folder, found[0].meta

    return keep


def needs(package):
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


@needs("sklearn")
def test_scikit_learn(kept):
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit(INPUTS, TARGET)
    folder, meta = kept(model)

    again = pickle.loads((folder / "model.pkl").read_bytes())
    assert np.array_equal(again.predict_proba(INPUTS), model.predict_proba(INPUTS))
    assert meta["class"] == "sklearn.linear_model._logistic.LogisticRegression"


@needs("xgboost")
def test_xgboost(kept):
    import xgboost

    model = xgboost.XGBClassifier(n_estimators=5, n_jobs=1).fit(INPUTS, TARGET)
    folder, meta = kept(model)

    again = xgboost.Booster(model_file=str(folder / "model.ubj"))
    wanted = model.get_booster().predict(xgboost.DMatrix(INPUTS))
    assert np.array_equal(again.predict(xgboost.DMatrix(INPUTS)), wanted)
    assert meta["library"] == f"xgboost {xgboost.__version__}"


@needs("lightgbm")
@pytest.mark.parametrize("is_estimator", [True, False])
def test_lightgbm(kept, is_estimator):
    import lightgbm

    model = lightgbm.LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1).fit(INPUTS, TARGET)
    folder, meta = kept(model if is_estimator else model.booster_)

    again = lightgbm.Booster(model_file=folder / "model.txt")
    assert np.array_equal(again.predict(INPUTS), model.booster_.predict(INPUTS))
    assert meta["format"] == "lightgbm text"


@needs("torch")
@pytest.mark.parametrize("is_scripted", [False, True])
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_torch(kept, is_scripted):
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    inputs = torch.tensor(INPUTS, dtype=torch.float32)
    folder, meta = kept(torch.jit.script(model) if is_scripted else model)

    assert meta["format"] == ("torchscript" if is_scripted else "torch state_dict")
    if is_scripted:
        again = torch.jit.load(folder / "model.pt")
    else:
        again = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
        again.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    assert torch.equal(again(inputs), model(inputs))


@needs("torch")
def test_a_module_of_torch_with_a_save_of_its_own_is_still_its_weights(kept):
    import torch

    class Own(torch.nn.Linear):
        def save(self, *, step):  # noqa: ARG002 - what it takes is its own affair
            raise AssertionError("it was called")

    model = Own(4, 1)
    folder, meta = kept(model)

    assert torch.equal(torch.load(folder / "model.pt", weights_only=True)["weight"], model.weight)
    assert (meta["format"], meta["library"]) == ("torch state_dict", f"torch {torch.__version__}")


@needs("torch")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_an_exported_program_of_torch(kept):
    import torch

    inputs = torch.tensor(INPUTS, dtype=torch.float32)
    model = torch.nn.Linear(4, 1)
    folder, meta = kept(torch.export.export(model, (inputs,)))

    again = torch.export.load(folder / "model.pt2").module()
    assert torch.equal(again(inputs), model(inputs))
    assert meta["format"] == "torch export"


@needs("lightgbm")
def test_the_labels_of_a_classifier_of_lightgbm_are_kept(kept):
    import lightgbm

    labels = np.array(["no", "yes"])[TARGET]
    _, meta = kept(lightgbm.LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1).fit(INPUTS, labels))

    assert meta["classes"] == ["no", "yes"]


@needs("lightgbm")
def test_a_model_of_lightgbm_predicts_the_same_after_early_stopping(kept):
    import lightgbm

    model = lightgbm.train(
        {"verbose": -1, "num_threads": 1, "objective": "binary"}, lightgbm.Dataset(INPUTS, TARGET), 3
    )
    model.best_iteration = 1
    folder, meta = kept(model)

    again = lightgbm.Booster(model_file=folder / "model.txt")
    assert np.array_equal(again.predict(INPUTS), model.predict(INPUTS))
    assert meta["best_iteration"] == 1


@needs("lightgbm")
def test_an_unfitted_model_of_lightgbm_says_so(kept):
    import lightgbm

    with pytest.raises(mlobs.UsageError, match="Need to call fit"):
        kept(lightgbm.LGBMClassifier())


@needs("keras")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_keras(kept, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "numpy" if importlib.util.find_spec("torch") is None else "torch")
    import keras

    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3, activation="relu")])
    folder, meta = kept(model)

    again = keras.saving.load_model(folder / "model.keras")
    wanted = keras.ops.convert_to_numpy(model(INPUTS.astype("float32")))
    assert np.array_equal(keras.ops.convert_to_numpy(again(INPUTS.astype("float32"))), wanted)
    assert meta["format"] == "keras"


@needs("onnx")
def test_onnx(kept):
    import onnx
    from onnx import TensorProto, helper

    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", sides[:1], sides[1:])
    model = helper.make_model(graph)
    folder, meta = kept(model)

    assert onnx.load(str(folder / "model.onnx")) == model
    assert meta["format"] == "onnx"


def test_a_model_that_saves_itself(kept):
    class Rules:
        def save(self, path):
            Path(path).mkdir()
            Path(path, "rules.txt").write_text("a -> b")

    folder, meta = kept(Rules())

    assert (folder / "model" / "rules.txt").read_text() == "a -> b"
    assert meta["format"] == "save"


def test_no_unknown_object_is_pickled(kept):
    class Unknown:
        def __reduce__(self):
            raise AssertionError("it was pickled")

    with pytest.raises(mlobs.UsageError, match="serializer="):
        kept(Unknown())


def test_a_serializer_of_ones_own(kept):
    folder, meta = kept({"a": 1}, serializer=lambda model, path: path.write_text(str(model)))

    assert (folder / "model").read_text() == "{'a': 1}"
    assert os.sep not in meta["format"]
