"""Fit models of one framework, print their fingerprints as JSON: `python model_cases.py FRAMEWORK FOLDER`.

Printed by name: what the model has, and what it has after it was saved to the folder and loaded again,
under NAME (HOW). Each must be the same in every process.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mlobs.repro.model_fingerprint import fingerprint_model

RNG = np.random.default_rng(3)
INPUTS = RNG.normal(size=(120, 4)).astype("float32")
TARGET = (INPUTS[:, 0] + 0.3 * RNG.normal(size=120) > 0).astype(int)
TEXTS = ["a good day", "such bad weather", "good good food", "the bad and the ugly"]
LABELS = [1, 0, 1, 0]

Cases = Iterator[tuple[str, Any]]


def sklearn(folder: Path) -> Cases:
    import joblib

    for name, model in sklearn_models():
        yield name, model
        yield f"{name} (pickle)", pickle.loads(pickle.dumps(model))
        joblib.dump(model, folder / "model.joblib", compress=3)
        yield f"{name} (joblib)", joblib.load(folder / "model.joblib")


def sklearn_models() -> Cases:
    from sklearn.ensemble import (
        GradientBoostingClassifier,
        HistGradientBoostingClassifier,
        RandomForestClassifier,
    )
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import SVC

    yield "logistic regression", LogisticRegression().fit(INPUTS, TARGET)
    yield "forest", RandomForestClassifier(10, random_state=0).fit(INPUTS, TARGET)
    yield "boosting", GradientBoostingClassifier(n_estimators=10, random_state=0).fit(INPUTS, TARGET)
    yield "histograms", HistGradientBoostingClassifier(max_iter=10, random_state=0).fit(INPUTS, TARGET)
    yield "network", MLPClassifier(max_iter=20, random_state=0).fit(INPUTS, TARGET)
    yield "neighbours", KNeighborsClassifier(algorithm="kd_tree").fit(INPUTS, TARGET)
    yield "support vectors", SVC().fit(INPUTS, TARGET)
    for vectorizer in (TfidfVectorizer(stop_words="english"), CountVectorizer(stop_words=["the", "and"])):
        name = type(vectorizer).__name__
        yield name, make_pipeline(vectorizer, LogisticRegression()).fit(TEXTS, LABELS)
    yield "columns", sklearn_columns()
    yield "search", GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2).fit(INPUTS, TARGET)


def sklearn_columns() -> Any:
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    frame = pd.DataFrame({"x": INPUTS[:, 0], "kind": np.where(TARGET, "yes", "no"), "left": 1})
    steps = [("numbers", StandardScaler(), ["x"]), ("kinds", OneHotEncoder(), ["kind"])]
    return ColumnTransformer(steps, remainder="passthrough").fit(frame)


def torch(folder: Path) -> Cases:
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 1)
    )
    yield "module", net
    yield "module (pickle)", pickle.loads(pickle.dumps(net))
    yield "module (parallel)", torch.nn.DataParallel(net)
    yield "module (compiled)", torch.compile(net)
    yield "weights", net.state_dict()
    torch.save(net.state_dict(), folder / "another-name.pt")
    yield "weights (file)", folder / "another-name.pt"
    yield "weights (arrays)", {name: one.numpy() for name, one in net.state_dict().items()}
    half = {name: one.to(torch.bfloat16) for name, one in net.state_dict().items()}
    yield "bfloat16", half
    torch.save(half, folder / "half.pth")
    yield "bfloat16 (file)", folder / "half.pth"
    scripted = torch.jit.script(net)
    yield "scripted", scripted
    torch.jit.save(scripted, folder / "scripted.pt")
    yield "scripted (file)", torch.jit.load(folder / "scripted.pt")
    yield "exported", torch.export.export(torch.nn.Linear(4, 1), (torch.tensor(INPUTS),))
    yield "sparse", {"w": torch.eye(3).to_sparse()}
    yield "optimizer", torch.optim.Adam(net.parameters()).state_dict()


def xgboost(folder: Path) -> Cases:
    import xgboost

    model = xgboost.XGBClassifier(n_estimators=5, n_jobs=1).fit(INPUTS, TARGET)
    yield "trees", model
    yield "trees (booster)", model.get_booster()
    yield "trees (pickle)", pickle.loads(pickle.dumps(model))
    yield "trees (two threads)", xgboost.XGBClassifier(n_estimators=5, n_jobs=2).fit(INPUTS, TARGET)
    for suffix in ("json", "ubj"):
        model.save_model(folder / f"model.{suffix}")
        yield f"trees ({suffix})", folder / f"model.{suffix}"


def lightgbm(folder: Path) -> Cases:
    import lightgbm

    model = lightgbm.LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1).fit(INPUTS, TARGET)
    yield "trees", model
    yield "trees (booster)", model.booster_
    yield "trees (pickle)", pickle.loads(pickle.dumps(model))
    model.booster_.save_model(folder / "model.txt")
    yield "trees (file)", folder / "model.txt"


def keras(folder: Path) -> Cases:
    import keras

    for name in ("model", "model (again in this process)"):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((4,))
        left, right = (keras.layers.Dense(3, activation="relu")(inputs) for _ in range(2))
        model = keras.Model(inputs, keras.layers.Add()([left, right]))
        yield name, model
    model.save(folder / "model.keras")
    for name in ("relu", "tanh"):  # layers that are called like what they do
        layers = [keras.Input((4,)), keras.layers.Activation(name, name=name)]
        yield name, keras.Sequential(layers)
    yield "model (file)", folder / "model.keras"


def onnx(folder: Path) -> Cases:
    from onnx import TensorProto, helper, numpy_helper, save

    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 4]) for name in ("x", "y")]
    weights = numpy_helper.from_array(INPUTS[:4], "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", sides[:1], sides[1:], [weights])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="one")
    yield "graph", model
    yield "graph (other order)", helper.make_model(graph, opset_imports=opsets[::-1], producer_name="other")
    save(model, folder / "model.onnx")
    yield "graph (file)", folder / "model.onnx"


def main() -> None:
    framework, folder = sys.argv[1], Path(sys.argv[2])
    warnings.simplefilter("ignore")
    os.environ.setdefault("KERAS_BACKEND", "torch")
    cases = globals()[framework](folder)
    sys.stdout.write(json.dumps({name: fingerprint_model(model).text for name, model in cases}) + "\n")


if __name__ == "__main__":
    main()
