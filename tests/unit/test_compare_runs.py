"""What differs between runs is named, and what does not differ is left out."""

import json

import pandas as pd
import pytest
from programs_of_runs import parts, program_run
from recorded import record_run
from typer.testing import CliRunner

import mlobs
from mlobs.cli.app import app
from mlobs.errors import UsageError
from mlobs.events import Dataset, Metrics, Params, Snapshot
from mlobs.journal.store import Store


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store")
    data = ["1" * 64, "1" * 64, "2" * 64]
    for number, digest in enumerate(data):
        at = 1000.0 + 100 * number
        record_run(
            made,
            Params(at, {"lr": 0.1 * number, "seed": 7, "note": "7" if number else 7}),
            Metrics(at + 1, 0, {"loss": 1.0 / (number + 1), "nan": float("nan"), "system/cpu_percent": at}),
            Dataset(at, "train", None, f"b3:{digest}", "content"),
            *([Params(at, {"only": "here"})] if number == 2 else []),
            at=at,
            name=f"run {number}",
        )
    return made


@pytest.fixture
def ids(store):
    return [one.run_id for one in store.runs()]


def test_tables_have_a_column_for_each_run_and_the_rows_that_differ(store, ids):
    found = mlobs.compare(ids, store=store)
    assert list(found.params.index) == ["lr", "note", "only"]
    assert list(found.params.columns) == ids
    assert found.params.loc["lr"].tolist() == [0.0, 0.1, 0.2]
    assert found.params.loc["note"].tolist() == [7, "7", "7"], "a number is not its text"
    assert found.params.loc["only"].tolist() == [pd.NA, pd.NA, "here"]
    assert list(found.metrics.index) == ["loss"]
    assert list(found.all_metrics.index) == ["loss", "nan"], "without the load of the machine"
    assert found.datasets.loc["train (train)"].tolist() == ["b3:111111111111"] * 2 + ["b3:222222222222"]
    assert list(found.runs["name"]) == ["run 0", "run 1", "run 2"]
    assert found.runs["duration_s"].tolist() == [60.0] * 3
    assert found


def test_a_param_that_is_none_differs_from_one_that_is_not_there(tmp_path):
    store = Store(tmp_path)
    for at, params in ((1000.0, {"depth": None, "lr": 1}), (2000.0, {"lr": 1})):
        record_run(store, Params(at, params), at=at)
    ids = [one.run_id for one in store.runs()]

    found = mlobs.compare(ids, store=store)

    assert found
    assert found.params.loc["depth"].tolist() == [None, pd.NA]
    assert str(found).count("None") == 1
    shown = CliRunner().invoke(app, ["compare", *ids, "--store", str(tmp_path), "--csv"])
    assert "params,depth,True,None,\n" in shown.stdout.replace("\r", "")
    shown = CliRunner().invoke(app, ["compare", *ids, "--store", str(tmp_path), "--json"])
    assert json.loads(shown.stdout)["params"]["depth"] == {"differs": True, "values": {ids[0]: None}}


def test_runs_without_a_difference_say_so(tmp_path):
    store = Store(tmp_path)
    for at in (1000.0, 2000.0):
        record_run(store, Params(at, {"lr": 0.1}), Metrics(at, 0, {"loss": float("nan")}), at=at)
    found = mlobs.compare([one.run_id for one in store.runs()], store=store)
    assert not found
    unknown = f"not known of {', '.join(found.runs.index)}: no snapshot was recorded"
    assert str(found).endswith(f"nothing differs of what is known\n\n{unknown}")
    assert f"<p>{unknown}</p>" in found._repr_html_()


def test_runs_of_which_all_is_known_do_not_differ_at_all(tmp_path):
    for _ in range(2):
        program_run(Store(tmp_path))
    assert str(mlobs.compare([one.run_id for one in Store(tmp_path).runs()], store=tmp_path)).endswith(
        "\n\nnothing differs"
    )


def test_a_part_that_was_not_captured_is_named_with_its_reason(tmp_path):
    whole = program_run(Store(tmp_path))
    without = program_run(Store(tmp_path), snapshot=parts(code="git took more than 30 s"))
    found = mlobs.compare([whole.run_id, without.run_id], store=tmp_path)
    assert found.unknown == {without.run_id: ("code: git took more than 30 s",)}
    assert f"not known of {without.run_id}: code: git took more than 30 s" in str(found)


def test_a_comparison_can_be_read_at_a_terminal_and_in_a_notebook(tmp_path):
    store = Store(tmp_path)
    for at, tag in ((1000.0, "<b>"), (2000.0, "<i>")):
        record_run(store, Params(at, {"name": tag}), at=at)
    found = mlobs.compare([one.run_id for one in store.runs()], store=store)
    assert "params" in str(found)
    assert "<b>" in str(found)
    assert "&lt;b&gt;" in found._repr_html_()
    assert "<b>" not in found._repr_html_()


def test_a_value_that_is_nan_is_not_taken_for_one_that_is_missing(tmp_path):
    store = Store(tmp_path)
    record_run(store, Metrics(1001.0, 0, {"loss": float("nan")}), at=1000.0)
    record_run(store, Metrics(2001.0, 0, {"auc": 0.5}), at=2000.0)
    found = mlobs.compare([one.run_id for one in store.runs()], store=store)
    (line,) = [line for line in str(found).splitlines() if line.startswith("loss")]
    assert line.split() == ["loss", "NaN"]
    assert found._repr_html_().count("NaN") == 1


def test_datasets_of_one_name_are_all_compared(tmp_path):
    store = Store(tmp_path)
    for at, digests in ((1000.0, ("1", "2")), (2000.0, ("3", "2"))):
        record_run(store, *(Dataset(at, "a", None, f"b3:{one * 64}", "content") for one in digests), at=at)
    found = mlobs.compare([one.run_id for one in store.runs()], store=store)
    assert found.datasets.iloc[0].tolist() == [f"b3:{a * 12}, b3:{'2' * 12}" for a in "13"]


def test_where_a_captured_file_is_not_here_the_rest_is_compared(tmp_path):
    store = Store(tmp_path)
    for at in (1000.0, 2000.0):
        record_run(store, Params(at, {"lr": at}), Snapshot(at, "environment", {}, blob=7), at=at)
    first, other = (one.run_id for one in store.runs())
    found = mlobs.compare([first, other], store=store)
    (line,) = found.environment[other]
    assert line.startswith(f"cannot be compared here: the environment of run {first} cannot be read")
    assert list(found.params.index) == ["lr"]


@pytest.mark.parametrize("runs", [[], ["latest"], ["latest", "latest"], "latest"])
def test_one_run_cannot_be_compared(store, runs):
    with pytest.raises(UsageError, match="expected two or more"):
        mlobs.compare(runs, store=store)


def test_a_run_that_is_not_there_is_named(store, ids):
    with pytest.raises(UsageError, match="no run 'nonsense'"):
        mlobs.compare([ids[0], "nonsense"], store=store)
