"""MLflow's runs: found by the tag of ours that names them, and hung below their parents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlobs.backends import mlflow_content
from mlobs.backends.mlflow_files import IMAGES_TAG, TABLES_TAG
from mlobs.errors import Unavailable

CONTEXT = "mlflow.data.context"  # mlflow.utils.mlflow_tags.MLFLOW_DATASET_CONTEXT


@dataclass
class MLflowRun:
    """An MLflow run as far as deliveries need it."""

    ref: str
    experiment_id: str
    parent_ref: str | None
    shown: dict[str, str] = field(default_factory=dict)  # tags that tell MLflow's pages what there is
    contexts: dict[tuple[str, str], str] = field(default_factory=dict)  # of its datasets, by name and digest
    is_jobs: bool = False  # of an Azure ML job, which sets the status itself
    writes_once: bool = False  # an artifact's path is never used again
    stored: set[tuple[str, str]] = field(default_factory=set)  # (path, key), of one that writes once

    @classmethod
    def of(cls, run: Any) -> MLflowRun:
        """Take from MLflow's own what is needed."""
        parent_ref = run.data.tags.get(mlflow_content.PARENT)
        shown = {tag: text for tag, text in run.data.tags.items() if tag in (IMAGES_TAG, TABLES_TAG)}
        held = {(one.dataset.name, one.dataset.digest): _context(one) for one in _inputs(run)}
        is_jobs = mlflow_content.JOB in run.data.tags  # also where this is not the job's own process
        ids = proper_id(run.info.run_id), proper_id(run.info.experiment_id)
        return cls(*ids, parent_ref, shown, held, is_jobs)


def _inputs(run: Any) -> Iterable[Any]:
    return run.inputs.dataset_inputs if run.inputs else ()


def _context(given: Any) -> str:
    return next((str(tag.value) for tag in given.tags if tag.key == CONTEXT), "")


def proper_id(text: str) -> str:
    """Return the id; an empty answer, which MLflow's client takes for a success, has none."""
    if not text:
        raise Unavailable("the tracking URI answers, but not as MLflow does - is it the server's address?")
    return text


def find(client: Any, experiment_id: str, run_id: str) -> MLflowRun | None:
    """Find the MLflow run of a run; of several, which only a race between hosts can make, the first."""
    where = f"tags.`{mlflow_content.RUN_ID}` = '{run_id}'"
    order = ["attributes.start_time ASC"]
    found = client.search_runs([experiment_id], where, max_results=1, order_by=order)
    return MLflowRun.of(found[0]) if found else None


def claim(client: Any, job_run: str, run_id: str, tags: Mapping[str, str]) -> MLflowRun | None:
    """Take the job's own run for a run of ours; None if another run of ours has it."""
    run = client.get_run(job_run)
    owner = run.data.tags.get(mlflow_content.RUN_ID)
    if owner is None:
        last = {
            mlflow_content.JOB: job_run,
            mlflow_content.RUN_ID: run_id,
        }  # the claim, when all else is there
        others = {name: text for name, text in tags.items() if name not in last}
        for name, text in {**others, **last}.items():
            client.set_tag(job_run, name, text)
        run = client.get_run(job_run)
        owner = run.data.tags.get(mlflow_content.RUN_ID)
    return MLflowRun.of(run) if owner == run_id else None


def adopt_children(client: Any, run: MLflowRun, run_id: str) -> None:
    """Hang the child runs below their parent that came to MLflow before it did."""
    where = f"tags.`{mlflow_content.PARENT_RUN_ID}` = '{run_id}'"
    token = None
    while True:
        page = client.search_runs([run.experiment_id], where, page_token=token)
        for child in page:
            client.set_tag(child.info.run_id, mlflow_content.PARENT, run.ref)
        token = page.token
        if not token:
            return
