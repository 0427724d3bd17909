"""Which workspace is meant: the job's own, by its environment, or one that is named, or in `config.json`."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mlobs.errors import UsageError

CONFIGS = (Path(".azureml", "config.json"), Path("config.json"), Path("aml_config", "config.json"))
_FORBIDDEN = re.compile(r"[^\w\-]", re.ASCII)  # azureml.core.Experiment: ^[a-zA-Z0-9][\w\-]{0,254}
_MOST = 255


class Workspace(NamedTuple):
    """A workspace's address in Azure."""

    subscription_id: str
    resource_group: str
    name: str

    @property
    def scope(self) -> str:
        """The path of the resource, as Azure spells it."""
        return (
            f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.name}"
        )


class Job(NamedTuple):
    """The job that this process is: its workspace, its own run, and where its services are."""

    workspace: Workspace
    experiment: str
    experiment_id: str | None
    run_id: str
    endpoint: str


_JOB = (
    "AZUREML_ARM_SUBSCRIPTION",
    "AZUREML_ARM_RESOURCEGROUP",
    "AZUREML_ARM_WORKSPACE_NAME",
    "AZUREML_ARM_PROJECT_NAME",
    "AZUREML_RUN_ID",
    "AZUREML_SERVICE_ENDPOINT",
)


def job_of(env: Mapping[str, str]) -> Job | None:
    """Find the Azure ML job in an environment; None if it is not in one."""
    values = [env.get(name, "").strip() for name in _JOB]
    has_identity = bool(env.get("AZUREML_RUN_TOKEN")) or env.get("AZUREML_IDENTITY_IN_USE") == "Managed"
    if not all(values) or not has_identity:
        return None
    subscription, group, name, experiment, run_id, endpoint = values
    experiment_id = env.get("AZUREML_EXPERIMENT_ID") or None
    return Job(Workspace(subscription, group, name), experiment, experiment_id, run_id, endpoint.rstrip("/"))


def workspace_of(subscription: str | None, group: str | None, name: str | None, config: str) -> Workspace:
    """Return the workspace that is named; what is not comes from the nearest `config.json` upwards.

    `config` is such a file, or the folder to begin at.

    Raises:
        UsageError: there is no such file, or it does not say all three.
    """
    given = {"subscription_id": subscription, "resource_group": group, "workspace_name": name}
    found: Mapping[str, object] = {}
    if not all(given.values()):
        path = _nearest(Path(config))
        if path is None:
            missing = ", ".join(key for key, value in given.items() if not value)
            raise UsageError(
                f"Azure ML: {missing} not given, and there is no config.json at or above {config} - "
                "download it from the workspace's page, or set subscription_id, resource_group, workspace"
            )
        found = _read(path)
    values = [str(value or found.get(key) or "") for key, value in given.items()]
    if not all(values):
        raise UsageError(f"Azure ML: {config} has no {', '.join(k for k in given if not found.get(k))}")
    return Workspace(*values)


def _nearest(start: Path) -> Path | None:
    if start.is_file():
        return start
    for folder in (start, *start.parents):
        for name in CONFIGS:
            if (folder / name).is_file():
                return folder / name
    return None


def _read(path: Path) -> Mapping[str, object]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"Azure ML: {os.fspath(path)} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise UsageError(f"Azure ML: {os.fspath(path)} is no JSON object")
    return found


def experiment_name(name: str) -> str:
    """Return the name as Azure ML takes it: letters, digits, `_` and `-`, at most 255 characters."""
    legal = _FORBIDDEN.sub("-", name)[:_MOST]
    return legal if legal[:1].isalnum() else f"x{legal}"[:_MOST]


def run_name(run_id: str) -> str:
    """Return a run's id as Azure ML takes it; it is the same for the same run, so a run is made once."""
    legal = _FORBIDDEN.sub("-", run_id)
    if legal == run_id and legal[:1].isalnum() and len(legal) <= _MOST:
        return legal
    digest = hashlib.blake2b(run_id.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"x{legal}"[: _MOST - 9] + f"-{digest}"
