"""Which of a launcher's processes this one is, and what all processes of one launch have in common.

Everything is read from the environment at the moment it is asked for, never at import: a script that
starts its own processes sets the variables after it has imported its libraries.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import NamedTuple

from mlobs.jobs import Job


class Rank(NamedTuple):
    """A process's place among those of one launch; `launcher` is who said so, "" if nobody did."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    launcher: str = ""

    @property
    def is_zero(self) -> bool:
        """The process that records where only one does."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """No other process belongs to the launch. Where nobody tells how many do, there may be others."""
        return self.world_size == 1 and self.launcher not in _TELL_NO_SIZE


class _Launcher(NamedTuple):
    """The variables of one launcher; of `sizes` the first that is there counts."""

    name: str
    rank: str
    sizes: tuple[str, ...]
    local_rank: str = ""


ALONE = Rank()

# What starts the processes themselves comes first: under `torchrun` or `mpirun` inside a SLURM job every
# process inherits the SLURM_PROCID of what launched it, often 0 for all of them.
_LAUNCHERS = (
    _Launcher("torchrun", "RANK", ("WORLD_SIZE",), "LOCAL_RANK"),  # also DeepSpeed, Accelerate, Azure ML
    _Launcher("Open MPI", "OMPI_COMM_WORLD_RANK", ("OMPI_COMM_WORLD_SIZE",), "OMPI_COMM_WORLD_LOCAL_RANK"),
    _Launcher("MVAPICH", "MV2_COMM_WORLD_RANK", ("MV2_COMM_WORLD_SIZE",), "MV2_COMM_WORLD_LOCAL_RANK"),
    _Launcher("MPI", "PMI_RANK", ("PMI_SIZE",), "MPI_LOCALRANKID"),  # MPICH, Intel MPI
    _Launcher("SLURM", "SLURM_PROCID", ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"), "SLURM_LOCALID"),
    _Launcher("PMIx", "PMIX_RANK", ()),
)
_TELL_NO_SIZE = [one.name for one in _LAUNCHERS if not one.sizes]


def rank_of(env: Mapping[str, str]) -> Rank:
    """Read a process's rank; without a launcher's variables it is `ALONE`.

    The first of these that says both a rank and a size counts: torchrun (`RANK`), Lightning's own
    launcher (`LOCAL_RANK` and `NODE_RANK`), Open MPI, MVAPICH, MPICH and Intel MPI (`PMI_RANK`), SLURM;
    then `PMIX_RANK`. A rank that does not lie below its size is somebody's own variable.
    """
    for launcher in _LAUNCHERS:
        found = _read(env, launcher)
        if found is None and launcher.name == "torchrun":
            found = _lightning(env)
        if found is not None:
            return found
    return ALONE


def launch_of(env: Mapping[str, str], rank: Rank) -> Job | None:
    """Find what all processes of this launch have in common and no other launch has; None: nobody tells.

    The first of these counts: `MLOBS_RUN_ID`, whatever it says; Azure ML's run; torchrun's `--rdzv-id`
    with the address where its processes meet, or, on one host, its folder of errors; the step of a
    SLURM job; the namespace of an MPI job. Processes that were started again are another launch.
    """
    if stated := env.get("MLOBS_RUN_ID", "").strip():
        return Job("job", stated, stated)
    again = env.get("TORCHELASTIC_RESTART_COUNT", "0")
    if run := env.get("AZUREML_RUN_ID"):
        return Job("azureml", run, f"{run}/{again}")
    return _of_torchrun(env, rank, again) or _of_slurm(env, rank) or _of_mpi(env)


def _read(env: Mapping[str, str], launcher: _Launcher) -> Rank | None:
    rank = _number(env, launcher.rank)
    sizes = [size for name in launcher.sizes if (size := _number(env, name)) is not None]
    if rank is None or (launcher.sizes and (not sizes or rank >= sizes[0])):
        return None
    local_rank = _number(env, launcher.local_rank)
    return Rank(
        rank, sizes[0] if sizes else rank + 1, rank if local_rank is None else local_rank, launcher.name
    )


def _lightning(env: Mapping[str, str]) -> Rank | None:
    """Without LOCAL_WORLD_SIZE the rank on another node is too low, but it is not 0, which matters."""
    local_rank, size = _number(env, "LOCAL_RANK"), _number(env, "WORLD_SIZE")
    if "RANK" in env or local_rank is None or size is None:
        return None
    node, local_size = _number(env, "NODE_RANK") or 0, _number(env, "LOCAL_WORLD_SIZE") or 1
    rank = node * local_size + local_rank
    return Rank(rank, size, local_rank, "Lightning") if rank < size else None


def _of_torchrun(env: Mapping[str, str], rank: Rank, again: str) -> Job | None:
    run = env.get("TORCHELASTIC_RUN_ID", "")
    if run not in ("", "none"):  # people give the same one to many launches; each meets elsewhere
        place = f"{env.get('MASTER_ADDR', '')}:{env.get('MASTER_PORT', '')}"
        return Job("torchrun", run, "/".join((run, place, env.get("SLURM_JOB_ID", ""), again)))
    errors = env.get("TORCHELASTIC_ERROR_FILE", "")
    if errors and _number(env, "LOCAL_WORLD_SIZE") == rank.world_size:
        # .../none_4x2k1p/attempt_0/LOCAL_RANK/error.json, of which the second folder is made for this launch
        attempt = posixpath.dirname(posixpath.dirname(errors.replace("\\", "/")))
        return Job("torchrun", posixpath.basename(posixpath.dirname(attempt)), f"{attempt}/{again}")
    return None


def _of_slurm(env: Mapping[str, str], rank: Rank) -> Job | None:
    """The step that `srun` started; under `mpirun` the processes of one launch belong to several."""
    job, step = env.get("SLURM_JOB_ID"), env.get("SLURM_STEP_ID")
    if not job or not step or rank.launcher not in ("SLURM", "PMIx", "MPI"):
        return None
    again = env.get("SLURM_RESTART_COUNT", "0")
    return Job("slurm", job, "/".join((env.get("SLURM_CLUSTER_NAME", ""), job, step, again)))


def _of_mpi(env: Mapping[str, str]) -> Job | None:
    space = env.get("PMIX_NAMESPACE") or env.get("OMPI_MCA_ess_base_jobid")
    if not space:
        return None
    return Job("mpi", space, "/".join((space, env.get("SLURM_JOB_ID", ""))))


def _number(env: Mapping[str, str], name: str) -> int | None:
    text = env.get(name, "").strip()
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None
