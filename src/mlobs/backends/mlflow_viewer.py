"""MLflow's own pages: where they are, or how they are served from a database. Nothing is imported."""

from __future__ import annotations

import importlib.util
import os
import sys

from mlobs.backend import Viewer
from mlobs.backends import mlflow_uri
from mlobs.errors import MissingPackage, UsageError

STORE_VARIABLE = "MLFLOW_BACKEND_STORE_URI"  # of `mlflow server`; a password in it is in no list of processes


def viewer(uri: str, full_uri: str, package: str, extra: str) -> Viewer:
    """Return the pages of a tracking URI; `full_uri` is the same with user and password.

    Raises:
        MissingPackage: `mlflow` is not installed.
        UsageError: the database file is not there yet, or nothing is known to show it.
    """
    if uri.startswith(("http://", "https://")):
        return Viewer(address=uri)
    if not mlflow_uri.is_database(uri):
        raise UsageError(f"{uri} has pages of its own - `mlobs show RUN` names a run's, once it is there")
    if importlib.util.find_spec(package) is None:
        raise MissingPackage(package, extra)
    path = mlflow_uri.sqlite_path(uri)
    if path is not None and not os.path.exists(path):  # noqa: PTH110 - a text, as everywhere here
        raise UsageError(f"there is no {path} yet - record a run for it, or type: mlobs sync")
    program = (sys.executable, "-m", "mlflow", "server", "--workers", "1")  # one person looks
    return Viewer(
        arguments=(*program, "--host", "127.0.0.1", "--port", "{port}"),
        environment={STORE_VARIABLE: full_uri, "MLFLOW_DISABLE_TELEMETRY": "true"},
    )
