"""What MLflow's digest of a dataset does not see, beside what a fingerprint says of it."""

import mlflow.data
import numpy as np
import pandas as pd
import pytest

from mlobs.repro.fingerprint import diff_fingerprints, fingerprint

ROWS = 12_000


@pytest.fixture(scope="module")
def frame():
    return pd.DataFrame(
        {
            "x": np.arange(ROWS, dtype="float64"),
            "label": np.zeros(ROWS, dtype="int64"),
            "at": pd.date_range("2024-01-01", periods=ROWS, freq="min"),
            "flag": np.arange(ROWS) % 2 == 0,
            "tags": [[n % 3] for n in range(ROWS)],
        }
    )


def digest(frame):
    return mlflow.data.from_pandas(frame).digest


CHANGES = {
    "every label after 10,000": (lambda f: f.assign(label=1 * (f.index >= 10_000)), "column label changed"),
    "every time": (lambda f: f.assign(at=f["at"] + pd.Timedelta(days=365)), "column at changed"),
    "every flag": (lambda f: f.assign(flag=~f["flag"]), "column flag changed"),
    "the type of the label": (lambda f: f.assign(label=f["label"].astype("int8")), "column label: i64 -> i8"),
    "every list": (lambda f: f.assign(tags=[[n] for n in range(ROWS)]), "column tags changed"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")  # MLflow's, of integers that may be missing some day
@pytest.mark.filterwarnings("ignore:Starting with pandas version 4")  # how MLflow calls pandas
@pytest.mark.parametrize("change", CHANGES)
def test_a_fingerprint_sees_and_names_what_mlflows_digest_misses(frame, change):
    make, said = CHANGES[change]
    changed = make(frame)

    assert digest(changed) == digest(frame)
    assert diff_fingerprints(fingerprint(frame), fingerprint(changed)) == [said]
