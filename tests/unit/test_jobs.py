"""A job is found where a scheduler says what it is, and it is the same after a restart."""

import pytest

from mlobs.jobs import job_of


@pytest.mark.parametrize(
    ("env", "found"),
    [
        ({}, None),
        ({"HOSTNAME": "trainer-x7k2p"}, None),
        ({"SLURM_JOB_ID": "4711"}, ("slurm", "4711")),
        (
            {"SLURM_JOB_ID": "4713", "SLURM_ARRAY_JOB_ID": "4711", "SLURM_ARRAY_TASK_ID": "2"},
            ("slurm", "4711_2"),
        ),
        ({"AZUREML_RUN_ID": "icy_sun_x1"}, ("azureml", "icy_sun_x1")),
        ({"JOB_NAME": "train"}, None),
        ({"JOB_NAME": "train", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, ("k8s", "train")),
        ({"JOB_NAME": "train", "KUBERNETES_SERVICE_HOST": "10.0.0.1", "JENKINS_URL": "http://ci"}, None),
        (
            {"JOB_NAME": "train", "KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "3"},
            ("k8s", "train-3"),
        ),
        ({"TORCHELASTIC_RUN_ID": "none"}, None),
        ({"TORCHELASTIC_RUN_ID": "sweep"}, ("torchrun", "sweep")),
        ({"MLOBS_RUN_ID": "mine", "SLURM_JOB_ID": "4711"}, ("job", "mine")),
    ],
)
def test_the_job_is_what_the_environment_says(env, found):
    job = job_of(env)

    assert (None if job is None else (job.scheduler, job.id)) == found


def test_a_requeued_job_has_the_same_run_and_all_others_have_another():
    first = job_of({"SLURM_JOB_ID": "4711", "SLURM_CLUSTER_NAME": "a", "SLURM_RESTART_COUNT": "0"})
    again = job_of({"SLURM_JOB_ID": "4711", "SLURM_CLUSTER_NAME": "a", "SLURM_RESTART_COUNT": "3"})
    elsewhere = job_of({"SLURM_JOB_ID": "4711", "SLURM_CLUSTER_NAME": "b"})

    assert first.run_id("churn", "x", 1) == again.run_id("churn", "x", 1)
    assert first.run_id("churn", "x", 1).startswith("slurm-4711-")
    others = [
        (first, "churn", "y", 1),
        (first, "other", "x", 1),
        (first, "churn", "x", 2),
        (elsewhere, "churn", "x", 1),
    ]
    ids = {job.run_id(*rest) for job, *rest in others}
    assert len(ids | {first.run_id("churn", "x", 1)}) == 5


def test_any_text_makes_an_id_that_a_folder_can_have():
    assert job_of({"MLOBS_RUN_ID": "../ä b/" + "x" * 300}).run_id("e", "\udcff", 1).startswith("job-b-xxx")
