"""A process's rank, and what the processes of one launch have in common, for each launcher."""

import pytest

from mlobs.ranks import ALONE, Rank, launch_of, rank_of

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "2",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "PMIX_RANK": "2",
    "PMIX_NAMESPACE": "prterun-node1-4711@1",
}
SLURM = {
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "5",
    "SLURM_NTASKS": "16",
    "SLURM_LOCALID": "1",
}
BATCH_SCRIPT = {**SLURM, "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_LOCALID": "0"}

RANKS = {
    "nobody launched it": ({}, ALONE),
    "torchrun": (TORCHRUN, Rank(3, 8, 1, "torchrun")),
    "without a local rank": ({"RANK": "3", "WORLD_SIZE": "8"}, Rank(3, 8, 3, "torchrun")),
    "somebody's own RANK": ({"RANK": "3"}, ALONE),
    "a RANK that is a word": ({"RANK": "major", "WORLD_SIZE": "8"}, ALONE),
    "a RANK that is too large": ({"RANK": "8", "WORLD_SIZE": "8"}, ALONE),
    "a RANK below zero": ({"RANK": "-1", "WORLD_SIZE": "8"}, ALONE),
    "a RANK of other digits": ({"RANK": "²", "WORLD_SIZE": "8"}, ALONE),
    "Lightning's first process": ({"WORLD_SIZE": "2", "NODE_RANK": "0"}, ALONE),
    "Lightning's own launcher": (
        {"WORLD_SIZE": "4", "LOCAL_RANK": "1", "NODE_RANK": "0"},
        Rank(1, 4, 1, "Lightning"),
    ),
    "Lightning on another node": (
        {"WORLD_SIZE": "4", "LOCAL_RANK": "0", "NODE_RANK": "1"},
        Rank(1, 4, 0, "Lightning"),
    ),
    "Open MPI": (OPEN_MPI, Rank(2, 4, 0, "Open MPI")),
    "MVAPICH": (
        {
            "MV2_COMM_WORLD_RANK": "1",
            "MV2_COMM_WORLD_SIZE": "2",
            "MV2_COMM_WORLD_LOCAL_RANK": "1",
            "PMI_RANK": "1",
        },
        Rank(1, 2, 1, "MVAPICH"),
    ),
    "MPICH": ({"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "0"}, Rank(1, 2, 0, "MPI")),
    "srun": (SLURM, Rank(5, 16, 1, "SLURM")),
    "a batch script of many tasks": (BATCH_SCRIPT, Rank(0, 1, 0, "SLURM")),
    "an old SLURM's batch script": ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, Rank(0, 4, 0, "SLURM")),
    "torchrun in a batch script": ({**BATCH_SCRIPT, **TORCHRUN}, Rank(3, 8, 1, "torchrun")),
    "mpirun in a batch script": ({**BATCH_SCRIPT, **OPEN_MPI}, Rank(2, 4, 0, "Open MPI")),
    "PMIx, which tells no size": ({"PMIX_RANK": "2"}, Rank(2, 3, 2, "PMIx")),
    "Azure ML": ({**TORCHRUN, "AZUREML_RUN_ID": "brave_fox"}, Rank(3, 8, 1, "torchrun")),
}


@pytest.mark.parametrize("case", RANKS)
def test_the_rank_is_the_one_that_the_launcher_gave(case):
    env, expected = RANKS[case]

    assert rank_of(env) == expected


FOLDER = "/scratch/torchelastic_ab12/none_4x2k"
STATIC = {
    **TORCHRUN,
    "LOCAL_WORLD_SIZE": "8",
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_ERROR_FILE": f"{FOLDER}/attempt_0/3/error.json",
}
ELASTIC = {
    **TORCHRUN,
    "TORCHELASTIC_RUN_ID": "bert",
    "MASTER_ADDR": "node1",
    "MASTER_PORT": "41234",
    "TORCHELASTIC_RESTART_COUNT": "0",
}
LAUNCHES = {
    "its name was given": {**TORCHRUN, "MLOBS_RUN_ID": "night 7"},
    "Azure ML": {**TORCHRUN, "AZUREML_RUN_ID": "brave_fox"},
    "torchrun with an id": ELASTIC,
    "torchrun on one host": STATIC,
    "srun": SLURM,
    "Open MPI": OPEN_MPI,
}
OTHER_RANK = {
    "RANK": "0",
    "LOCAL_RANK": "0",
    "OMPI_COMM_WORLD_RANK": "0",
    "PMIX_RANK": "0",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "TORCHELASTIC_ERROR_FILE": f"{FOLDER}/attempt_0/0/error.json",
}


def launch(env):
    return launch_of(env, rank_of(env))


@pytest.mark.parametrize("case", LAUNCHES)
def test_all_ranks_of_a_launch_find_the_same(case):
    env = LAUNCHES[case]
    other = {**env, **{name: value for name, value in OTHER_RANK.items() if name in env}}

    assert rank_of(other) != rank_of(env)
    assert launch(other) == launch(env)
    assert launch(env) is not None


@pytest.mark.parametrize(
    ("env", "change"),
    [
        (LAUNCHES["its name was given"], {"MLOBS_RUN_ID": "night 8"}),
        (LAUNCHES["Azure ML"], {"AZUREML_RUN_ID": "brave_cat"}),
        (LAUNCHES["Azure ML"], {"TORCHELASTIC_RESTART_COUNT": "1"}),
        (ELASTIC, {"TORCHELASTIC_RUN_ID": "gpt"}),
        (ELASTIC, {"MASTER_PORT": "41235"}),
        (ELASTIC, {"TORCHELASTIC_RESTART_COUNT": "1"}),
        (STATIC, {"TORCHELASTIC_ERROR_FILE": "/scratch/torchelastic_cd34/none_9z/attempt_0/3/error.json"}),
        (STATIC, {"TORCHELASTIC_RESTART_COUNT": "1"}),
        (SLURM, {"SLURM_JOB_ID": "78"}),
        (SLURM, {"SLURM_STEP_ID": "1"}),
        (SLURM, {"SLURM_RESTART_COUNT": "1"}),
        (OPEN_MPI, {"PMIX_NAMESPACE": "prterun-node1-4712@1"}),
    ],
)
def test_another_launch_is_told_from_it(env, change):
    assert launch({**env, **change}).key != launch(env).key


@pytest.mark.parametrize(
    "env",
    [
        {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"},
        {**STATIC, "LOCAL_WORLD_SIZE": "4"},  # on several hosts each has a folder of its own
        {**SLURM, **TORCHRUN},  # torchrun was started in the step, perhaps twice
        {"PMI_RANK": "1", "PMI_SIZE": "2"},
    ],
)
def test_what_every_launch_may_have_in_common_tells_nothing(env):
    assert launch(env) is None
