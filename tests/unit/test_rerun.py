"""What a repetition is started with, and which of its runs corresponds."""

import sys

import pytest
from programs_of_runs import losses, program_run

from mlobs.errors import UsageError
from mlobs.journal.store import Store
from mlobs.repro.rerun import find_like, repeat, variables_of


@pytest.fixture
def stores(tmp_path):
    made = Store(tmp_path / "then"), Store(tmp_path / "again")
    for one in made:
        one.create()
    return made


def test_what_was_set_then_is_set_again_and_what_is_set_now_wins():
    recorded = {"OMP_NUM_THREADS": "1", "MKL_CBWR": "AVX2", "PYTHONHASHSEED": "7", "MLOBS_SEED": "7"}
    now = {"OMP_NUM_THREADS": "4", "PATH": "/bin", "MLOBS_STORE": "/live", "MLOBS_BACKENDS": "mlflow"}
    assert variables_of(recorded, now) == {
        "OMP_NUM_THREADS": "4",
        "PATH": "/bin",
        "MKL_CBWR": "AVX2",
        "PYTHONHASHSEED": "7",
        "MLOBS_SEED": "7",
    }


def test_a_rank_is_not_started_as_one_of_many_that_never_come():
    recorded = {"WORLD_SIZE": "4", "RANK": "0", "LOCAL_RANK": "0", "SLURM_NTASKS": "4", "TZ": "UTC"}
    assert variables_of(recorded, {}) == {"TZ": "UTC"}


def test_what_a_record_names_beside_the_recorded_variables_is_not_set():
    assert variables_of({"LD_LIBRARY_PATH": "/x", "AWS_PROFILE": "y", "MLOBS_STORE": "z"}, {}) == {
        "LD_LIBRARY_PATH": "/x"
    }


def test_the_run_that_corresponds_has_the_name_and_the_params(stores):
    then, again = stores
    like = program_run(then, params={"fold": 2}, name="fold", number=2)
    runs = [program_run(again, params={"fold": fold}, name="fold", number=4 - fold) for fold in (1, 2, 3)]
    program_run(again, params={"fold": 2}, name="other", number=2)
    program_run(again, params={"fold": 2}, name="fold", number=2, experiment="other")
    assert find_like(again, like).run_id == runs[1].run_id


def test_of_runs_with_the_same_params_it_is_the_one_at_the_same_place(stores):
    then, again = stores
    like = program_run(then, name="fold", number=3)
    runs = [program_run(again, name="fold", number=number) for number in (1, 2, 3, 4)]
    assert find_like(again, like).run_id == runs[2].run_id


def test_runs_that_nobody_named_correspond_by_their_place_and_a_child_is_no_program(stores):
    then, again = stores
    run_id = "20240101-000000-000000-abc123"
    like = program_run(then, run_id=run_id, name="run-abc123", number=1)
    outer = program_run(again, run_id="20240102-000000-000000-def456", name="run-def456", number=1)
    program_run(again, parent_run_id=outer.run_id, name="run-abc123", number=1)
    assert find_like(again, like).run_id == outer.run_id


def test_if_nothing_corresponds_there_is_none(stores):
    then, again = stores
    like = program_run(then, name="fit")
    assert find_like(again, like) is None
    program_run(again, name="other")
    assert find_like(again, like) is None


def test_a_repetition_that_fails_says_its_last_words(stores, tmp_path):
    like = program_run(stores[0], *losses(0.5), name="fit")
    command = [sys.executable, "-c", "print('before'); raise SystemExit('no such file: data.csv')"]
    done = repeat(command, tmp_path, {}, tmp_path / "repetition", like, lambda _: None)
    assert (done.exit_code, done.run) == (1, None)
    assert done.problem == (
        "the repetition recorded no run like 'fit' (exit code 1)\n    before\n    no such file: data.csv"
    )


def test_a_program_that_cannot_be_started_is_an_error_that_names_it(stores, tmp_path):
    like = program_run(stores[0], name="fit")
    with pytest.raises(UsageError, match="'/no/such/python' cannot be started: No such file"):
        repeat(["/no/such/python"], tmp_path, {}, tmp_path / "repetition", like, lambda _: None)
