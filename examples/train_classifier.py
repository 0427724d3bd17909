"""Train a digit classifier with four settings, track every epoch in three places, and compare.

Run it with `make demo`. Everything it writes lies in `demo-output/`. With a connection string in
`APPLICATIONINSIGHTS_CONNECTION_STRING` it tracks in Application Insights, too.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split

import mlobs

OUTPUT = Path("demo-output").absolute()
EPOCHS = 150
CLASSES = np.arange(10)

backends: list[Any] = [
    mlobs.backends.MLflow(tracking_uri=f"sqlite:///{OUTPUT / 'mlflow.db'}"),
    mlobs.backends.TensorBoard(logdir=str(OUTPUT / "tensorboard")),
]
if os.environ.get("APPLICATIONINSIGHTS_CONNECTION_STRING"):
    backends.append(mlobs.backends.AppInsights())
if "AZUREML_RUN_ID" in os.environ:  # in a job of Azure ML, its own run too
    backends.append(mlobs.backends.AzureML())
tracker = mlobs.Tracker("digits", store=OUTPUT / "store", backends=backends)


@dataclass
class Optimizer:
    """How the weights are updated."""

    eta0: float
    schedule: str = "constant"


@tracker.track
def train(optimizer: Optimizer, alpha: float, *, seed: int = 0, run: mlobs.Run) -> dict[str, float]:
    """One training: its arguments become params, what it returns its final metrics."""
    data, labels = load_digits(return_X_y=True)
    run.log_dataset("digits", {"data": data, "labels": labels})
    train_x, val_x, train_y, val_y = train_test_split(
        data / 16.0, labels, test_size=0.25, random_state=seed, stratify=labels
    )
    model = SGDClassifier(
        loss="log_loss",
        alpha=alpha,
        learning_rate=optimizer.schedule,
        eta0=optimizer.eta0,
        random_state=seed,
    )
    shuffle = np.random.default_rng(seed)
    best = 0.0
    for epoch in range(EPOCHS):
        order = shuffle.permutation(len(train_x))
        model.partial_fit(train_x[order], train_y[order], classes=CLASSES)
        scores = evaluate(model, train_x, train_y, "train") | evaluate(model, val_x, val_y, "val")
        run.log_metrics(scores, step=epoch)
        best = max(best, scores["val/accuracy"])
    run.log_dict("classes", {"classes": CLASSES.tolist(), "features": data.shape[1]})
    run.log_model("classifier", model)
    return {"best_val_accuracy": best}


def evaluate(model: SGDClassifier, data: np.ndarray, labels: np.ndarray, part: str) -> dict[str, float]:
    """Loss and accuracy on one part of the data."""
    probabilities = model.predict_proba(data)
    return {
        f"{part}/loss": log_loss(labels, probabilities, labels=CLASSES),
        f"{part}/accuracy": accuracy_score(labels, CLASSES[probabilities.argmax(axis=1)]),
    }


def main() -> None:
    with tracker.start_run("sweep", tags={"purpose": "demo"}) as sweep:
        for eta0 in (0.001, 0.01, 0.1):
            train(Optimizer(eta0), alpha=1e-4)
        train(Optimizer(0.01, "adaptive"), alpha=1e-3)
        sweep.log_text("readme", "Four settings of a linear classifier on scikit-learn's digits.")
    compare(sweep)


def compare(sweep: mlobs.Run) -> None:
    """Print what the local store holds, and how to open the same runs elsewhere."""
    runs = mlobs.runs(store=OUTPUT / "store")
    children = runs[runs["parent_run_id"] == sweep.id]
    columns = {
        "run_id": "run",
        "status": "status",
        "params.optimizer.eta0": "eta0",
        "params.optimizer.schedule": "schedule",
        "params.alpha": "alpha",
        "metrics.train/loss": "train/loss",
        "metrics.val/loss": "val/loss",
        "metrics.best_val_accuracy": "best val accuracy",
    }
    table = children[list(columns)].rename(columns=columns)
    print(table.sort_values("best val accuracy", ascending=False).to_string(index=False, float_format="%.4f"))
    points = mlobs.metrics(store=OUTPUT / "store", run_ids=list(children["run_id"]))
    print(f"\n{len(points):,} points of {len(children)} runs; the sweep's delivery:")
    for report in sweep.delivery().values():
        print(f"  {report}")
    bin_folder = Path(sys.executable).parent
    best = children.loc[children["metrics.best_val_accuracy"].idxmax(), "run_id"]
    print(
        "\nOpen the same runs elsewhere:\n"
        f"  {bin_folder}/mlflow ui --host 127.0.0.1 --port 5000 --backend-store-uri sqlite:///{OUTPUT}/mlflow.db\n"
        f"  {bin_folder}/tensorboard --host 127.0.0.1 --port 6006 --logdir {OUTPUT}/tensorboard\n"
        f"  {bin_folder}/mlobs runs --store {OUTPUT}/store"
        "\n\nThe same model again? This trains it once more, from its record, and compares:\n"
        f"  {bin_folder}/mlobs reproduce {best} --store {OUTPUT}/store"
    )


if __name__ == "__main__":
    main()
