"""The job that this process belongs to: what stays the same when a scheduler starts it again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import NamedTuple

_MAX_NAME = 40  # characters of a job's id in a run's id; its hash tells long ones apart


class Job(NamedTuple):
    """A scheduler's job. `key` holds all that tells it from other jobs, `id` what people call it."""

    scheduler: str
    id: str
    key: str

    def run_id(self, experiment: str, name: str, ordinal: int) -> str:
        """The id of this job's run of that name, the same for each start of the job.

        `ordinal` counts the runs of one name that one process opens, from 1.
        """
        identity = "\n".join((self.scheduler, self.key, experiment, name, str(ordinal)))
        digest = hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()
        label = re.sub(r"[^A-Za-z0-9]+", "-", self.id).strip("-")[:_MAX_NAME] or "job"
        return f"{self.scheduler}-{label}-{digest}"


def job_of(env: Mapping[str, str]) -> Job | None:
    """Find the job in a process's environment, None if it is no scheduler's.

    The first of these counts: `MLOBS_RUN_ID`, whatever it says; SLURM (a requeued job keeps its id, a
    task of an array has its own); Azure ML; a Kubernetes Job, which must be told its own name by the
    downward API as `JOB_NAME` (a pod's `HOSTNAME` is another each time); torchrun's `--rdzv-id`.
    """
    return _stated(env) or _slurm(env) or _azureml(env) or _kubernetes(env) or _torchrun(env)


def _stated(env: Mapping[str, str]) -> Job | None:
    stated = env.get("MLOBS_RUN_ID", "").strip()
    return Job("job", stated, stated) if stated else None


def _slurm(env: Mapping[str, str]) -> Job | None:
    task = env.get("SLURM_ARRAY_TASK_ID")
    array, job = env.get("SLURM_ARRAY_JOB_ID"), env.get("SLURM_JOB_ID")
    found = f"{array}_{task}" if array and task else job
    return Job("slurm", found, f"{env.get('SLURM_CLUSTER_NAME', '')}/{found}") if found else None


def _azureml(env: Mapping[str, str]) -> Job | None:
    run = env.get("AZUREML_RUN_ID")
    return Job("azureml", run, run) if run else None


def _kubernetes(env: Mapping[str, str]) -> Job | None:
    name = env.get("JOB_NAME")
    if not name or "KUBERNETES_SERVICE_HOST" not in env or "JENKINS_URL" in env:
        return None  # Jenkins calls its jobs so too, and each build of one alike
    index = env.get("JOB_COMPLETION_INDEX", "")
    found = f"{name}-{index}" if index else name
    return Job("k8s", found, f"{env.get('POD_NAMESPACE', '')}/{found}")


def _torchrun(env: Mapping[str, str]) -> Job | None:
    run = env.get("TORCHELASTIC_RUN_ID", "")
    return Job("torchrun", run, run) if run not in ("", "none") else None
