"""Fingerprints of the frameworks' models: one in every process, file and copy; else the part is named."""

import copy
import importlib.util
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mlobs
from mlobs.repro.model_fingerprint import diff_models, fingerprint_model

CASES = Path(__file__).with_name("model_cases.py")
SLOW = ("torch", "keras")  # 7 s each on an idle machine, most of it imports
RNG = np.random.default_rng(3)
INPUTS = RNG.normal(size=(120, 4)).astype("float32")
TARGET = (INPUTS[:, 0] > 0).astype(int)


def is_there(package):
    return importlib.util.find_spec(package) is not None


def needs(package):
    return pytest.mark.skipif(not is_there(package), reason=f"{package} is not installed")


def both_processes(framework, tmp_path):
    """What two processes print that order their sets of texts differently."""
    running = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        backend = "torch" if is_there("torch") else "numpy"
        env = {**os.environ, "PYTHONHASHSEED": seed, "KERAS_BACKEND": backend}
        command = [sys.executable, "-W", "ignore", CASES, framework, folder]
        running.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True))
    return [json.loads(process.communicate(timeout=120)[0].splitlines()[-1]) for process in running]


@pytest.mark.parametrize(
    "framework",
    [
        pytest.param(name, marks=[needs(name), *([pytest.mark.slow] if name in SLOW else [])])
        for name in ("sklearn", "torch", "xgboost", "lightgbm", "keras", "onnx")
    ],
)
def test_a_model_has_one_fingerprint_in_every_process_and_file(framework, tmp_path):
    one, other = both_processes(framework, tmp_path)

    assert one == other
    of_name = {name.partition(" (")[0]: text for name, text in one.items() if " (" not in name}
    assert {name: text for name, text in one.items() if text != of_name[name.partition(" (")[0]]} == {}
    assert len(set(of_name.values())) == len(of_name)


@needs("torch")
def test_one_unit_in_the_last_place_of_a_weight_is_named():
    import torch

    net = torch.nn.Sequential(*[torch.nn.Linear(4, 4) for _ in range(5)])
    other = copy.deepcopy(net)
    with torch.no_grad():
        other[3].weight[1, 2] = torch.nextafter(net[3].weight[1, 2], torch.tensor(9.0))

    assert diff_models(fingerprint_model(net), fingerprint_model(other)) == ["leaf $.3.weight differs"]


@needs("torch")
def test_other_layers_without_weights_are_named_first():
    import torch

    one, other = (
        torch.nn.Sequential(torch.nn.Linear(2, 2), last()) for last in (torch.nn.ReLU, torch.nn.Tanh)
    )

    lines = diff_models(fingerprint_model(one), fingerprint_model(other))

    assert lines[0] == "leaf $.1.__class__ differs"
    assert fingerprint_model(one).library == f"torch {torch.__version__}"


@needs("torch")
def test_layout_device_and_gradient_of_a_tensor_do_not_count():
    import torch

    tensor = torch.arange(6.0).reshape(2, 3)
    same = tensor.T.contiguous().T.clone().requires_grad_()

    assert (
        fingerprint_model(tensor).text
        == fingerprint_model(same).text
        == fingerprint_model(tensor.numpy()).text
    )


@needs("torch")
def test_training_mode_does_not_count_and_the_module_is_left_as_it_is():
    import torch

    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.5))
    training = fingerprint_model(net.train())

    assert fingerprint_model(net.eval()).text == training.text
    assert not net.training
    assert net[0].weight.requires_grad


@needs("torch")
def test_what_has_no_values_here_is_refused():
    import torch

    with pytest.raises(mlobs.UsageError, match=r"^\$\.w is of torch\.Tensor.*'meta'"):
        fingerprint_model({"w": torch.empty(2, device="meta")})


@needs("torch")
def test_no_code_of_a_file_runs(tmp_path):
    import torch

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"w": Evil()}, tmp_path / "model.pt")
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(Evil()))

    for file in ("model.pt", "model.pkl"):
        with pytest.raises(mlobs.UsageError, match="load it yourself"):
            fingerprint_model(tmp_path / file)
    assert not (tmp_path / "ran").exists()


@needs("sklearn")
def test_a_parameter_and_a_coefficient_of_scikit_learn_are_named():
    import sklearn
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit(INPUTS, TARGET)
    other = copy.deepcopy(model)
    other.C = 2.0
    other.coef_[0, 1] = np.nextafter(other.coef_[0, 1], 9)
    one = fingerprint_model(model)

    assert diff_models(one, fingerprint_model(other)) == ["leaf $.C differs", "leaf $.coef_ differs"]
    assert one.library == f"scikit-learn {sklearn.__version__}"


@needs("sklearn")
def test_a_split_of_one_tree_in_a_forest_is_named():
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(50, random_state=0).fit(INPUTS, TARGET)
    other = copy.deepcopy(model)
    other.estimators_[7].tree_.threshold[0] += 1e-6

    assert diff_models(fingerprint_model(model), fingerprint_model(other)) == [
        "leaf $.estimators_[7].tree_.nodes.threshold differs"
    ]


@needs("xgboost")
def test_a_booster_inside_a_pipeline_is_its_trees():
    import xgboost
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    one, other = (
        make_pipeline(StandardScaler(), xgboost.XGBClassifier(n_estimators=count, n_jobs=1)).fit(
            INPUTS, TARGET
        )
        for count in (3, 4)
    )

    lines = diff_models(fingerprint_model(one), fingerprint_model(other))

    assert "leaf $.steps[1][1].gradient_booster.model.gbtree_model_param.num_trees differs" in lines


@needs("xgboost")
def test_an_estimator_that_is_not_fitted_is_its_parameters():
    import xgboost

    one, other = (fingerprint_model(xgboost.XGBClassifier(max_depth=depth)) for depth in (3, 4))

    assert diff_models(one, other) == ["leaf $.max_depth differs"]


@needs("lightgbm")
def test_a_tree_of_lightgbm_is_named():
    import lightgbm

    one, other = (
        fingerprint_model(
            lightgbm.LGBMClassifier(n_estimators=count, n_jobs=1, verbose=-1).fit(INPUTS, TARGET)
        )
        for count in (3, 4)
    )

    assert diff_models(one, other) == ["leaf $.trees[3] only in the second"]


@needs("onnx")
def test_a_constant_of_onnx_is_named():
    from onnx import helper, numpy_helper

    models = [
        helper.make_model(
            helper.make_graph([], "g", [], [], [numpy_helper.from_array(np.full(3, fill, "f4"), "w")])
        )
        for fill in (1, 2)
    ]

    assert diff_models(*map(fingerprint_model, models)) == ["leaf $.constants.w differs"]


def test_a_text_of_mlobs_itself_imports_no_framework():
    program = (
        "import sys; from mlobs.repro.model_fingerprint import fingerprint_model as f; f({'a': [1]})\n"
        "print({'numpy', 'pandas', 'torch', 'sklearn', 'xgboost', 'keras', 'onnx'} & sys.modules.keys())"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"
