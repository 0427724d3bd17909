"""What is different where an Azure ML workspace is spoken to by MLflow's protocol: limits, files, a job."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from mlobs.backend import Capabilities

MAX_PARAMS = 200  # of a run; github.com/Azure/azure-sdk-for-python/issues/35685
MAX_VALUES = 250  # of one post; github.com/mlflow/mlflow/issues/11462
MAX_TAGS, MAX_TAG = 38, 1_000  # of 50, with room for mlobs' own; characters
TIMEOUT_VARIABLE = (
    "AZUREML_HTTP_REQUEST_TIMEOUT"  # of the plugin's own requests about artifacts; 300 s by itself
)
_VERSION = re.compile(r"~[0-9a-f]{8}(?:-\d+)?(?=(?:\.[^./~]*)?\Z)")
_CONFLICT = re.compile(r"resource conflict|already exists", re.IGNORECASE)
_MOST_TRIES = 1_000  # of one artifact, each of which failed after it had claimed a path: most of a day


def is_azureml(uri: str) -> bool:
    """Tell whether a tracking URI is an Azure ML workspace's."""
    return uri.startswith("azureml://")


def has_plugin() -> bool:
    """Tell whether MLflow can speak to a workspace here."""
    parent = importlib.util.find_spec("azureml")
    return parent is not None and importlib.util.find_spec("azureml.mlflow") is not None


def fitted(capabilities: Capabilities) -> Capabilities:
    """Return what the workspace takes: fewer params, and no datasets, which its server does not know."""
    kinds = capabilities.kinds - {"dataset"}
    return dataclasses.replace(
        capabilities,
        kinds=kinds,
        max_values=MAX_VALUES,
        max_params=MAX_PARAMS,
        max_tags=MAX_TAGS,
        max_tag_length=MAX_TAG,
    )


def job_run(uri: str, env: Mapping[str, str]) -> str | None:
    """Return the run of the Azure ML job that this process is, None if it is none."""
    return (env.get("MLFLOW_RUN_ID") or None) if is_azureml(uri) else None


def candidates(path: str, key: str) -> Iterator[str]:
    """Yield where an artifact may lie: under its path, or beside it if the path is taken.

    Artifacts are written once there, and a path whose content did not arrive stays taken; `key` is the
    entry's, so that two entries do not share their second path.
    """
    yield path
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    one = PurePosixPath(path)
    for number in range(1, _MOST_TRIES):
        mark = f"~{digest}" if number == 1 else f"~{digest}-{number}"
        yield str(one.with_name(f"{one.stem}{mark}{one.suffix}"))


def first_path(stored: str) -> str:
    """Undo `candidates`."""
    return _VERSION.sub("", stored)


def is_conflict(error: BaseException) -> bool:
    """Tell whether an artifact was refused because its path is taken."""
    return _CONFLICT.search(str(error)) is not None
