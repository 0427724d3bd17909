"""A run with one of each kind of payload, to see what the pages of MLflow and TensorBoard make of it.

python examples/one_of_each.py
mlflow ui --backend-store-uri sqlite:///demo-output/gallery/mlflow.db
tensorboard --logdir demo-output/gallery/board
"""

import logging
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix

import mlobs

OUTPUT = Path("demo-output", "gallery").absolute()
STEPS = 5

logging.basicConfig(level="INFO")
log = logging.getLogger("train")


def main() -> None:
    OUTPUT.mkdir(parents=True, exist_ok=True)
    tracker = mlobs.Tracker(
        "gallery",
        backends=[
            mlobs.backends.MLflow(f"sqlite:///{OUTPUT}/mlflow.db", artifact_location=str(OUTPUT / "mlruns")),
            mlobs.backends.TensorBoard(str(OUTPUT / "board")),
        ],
        store=OUTPUT / ".mlobs",
        capture_logs=True,
    )
    digits = load_digits()
    with tracker.start_run("one of each", params={"C": 0.1, "steps": STEPS}, tags={"team": "demo"}) as run:
        model = LogisticRegression(C=0.1, max_iter=1000)
        for step in range(STEPS):
            chosen = slice(0, 200 * (step + 1))
            model.fit(digits.data[chosen] / 16, digits.target[chosen])
            accuracy = model.score(digits.data[1000:] / 16, digits.target[1000:])
            run.log_metrics({"accuracy": accuracy, "rows": chosen.stop}, step=step)
            run.log_histogram("weights", model.coef_, step=step)
            weights = (model.coef_[3].reshape(8, 8) - model.coef_.min()) / np.ptp(model.coef_)
            run.log_image("weights of 3", np.kron(weights, np.ones((16, 16))), step=step)
            log.info("step %d: accuracy %.3f", step, accuracy)
        predicted = model.predict(digits.data[1000:] / 16)
        run.log_confusion_matrix(
            "confusion", confusion_matrix(digits.target[1000:], predicted), [str(name) for name in range(10)]
        )
        frame = pd.DataFrame({"actual": digits.target[1000:], "predicted": predicted})
        run.log_table("wrong", frame[frame.actual != frame.predicted].head(50))
        run.log_matrix("mean digit", digits.data.mean(axis=0).reshape(8, 8))
        run.log_figure("distribution", distribution(digits.target))
        run.log_text("notes", "Trained on *growing* slices of the digits.")
        run.log_dict("config", {"model": {"kind": "logistic", "C": 0.1}})
        run.log_model("classifier", model)
        run.log_artifact(__file__, "code")
    print(run.id, *run.delivery().values(), sep="\n")


def distribution(target: np.ndarray) -> plt.Figure:
    figure, axes = plt.subplots(figsize=(5, 3))
    axes.hist(target, bins=np.arange(11) - 0.5, rwidth=0.8)
    axes.set_xlabel("digit")
    axes.set_ylabel("rows")
    return figure


if __name__ == "__main__":
    main()
