"""Opening MLflow: its import, its settings for this process, and one opening at a time per database."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from mlobs.backends import mlflow_azureml, mlflow_uri
from mlobs.errors import MissingPackage, Unavailable

TIMEOUT_S = 30  # MLflow's own is 120; a lane that is silent for long is taken for hung
LOCK_S = 60.0  # 16 processes that make a fresh database take turns for 20 s
_LOCK_LOOK_S = 0.05
_SLOWEST_UPLOAD = 1_000_000  # bytes per second: what a server may need to hand an artifact on to its store
_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # MLflow 3 reports each call to its vendor's servers
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the lane retries; MLflow's 7 would hold it for 4 minutes
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # the end of a run would print to the user's terminal
    _TIMEOUT: str(TIMEOUT_S),
}


def connect(tracking_uri: str) -> Any:
    """Return an `MlflowClient`; a SQLite database is opened, or made, by one process at a time.

    The settings above are set in this process's environment, where the user has not set them; MLflow
    reads them at each request.

    Raises:
        MissingPackage: `mlflow` is not installed.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    if mlflow_azureml.is_azureml(tracking_uri):
        os.environ.setdefault(mlflow_azureml.TIMEOUT_VARIABLE, str(TIMEOUT_S))
        if not mlflow_azureml.has_plugin():
            raise MissingPackage("azureml.mlflow", "azureml-mlflow")
    try:
        # About 1 s of CPU, measured with 3.17; no other import of the client costs less, because
        # the package's own __init__ loads it all.
        from mlflow import MlflowClient
    except ImportError as error:
        raise MissingPackage("mlflow", "mlflow") from error
    path = mlflow_uri.sqlite_path(tracking_uri)
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    with database_lock(path):  # the constructor creates and migrates the tables
        return MlflowClient(tracking_uri=tracking_uri)


@contextmanager
def database_lock(path: str | None, *, patience_s: float = LOCK_S) -> Iterator[None]:
    """Hold the host-wide lock of a SQLite database. None: no lock.

    Under it tables and runs are made: 16 processes that open a fresh database at once would migrate
    it at once, and fail. Rows are written without it.

    The lock file stands beside the database, because whoever writes to a SQLite database can create
    files there, and because containers and users that share the folder share the lock, which they
    would not in a temporary directory. Reading it is enough to lock it, so its owner does not
    matter. It stays there: removing a file that another process is about to lock would make two.
    Without `flock` (Windows) there is no lock.

    Raises:
        Unavailable: somebody holds it for longer than `patience_s`, such as a process that was stopped.
    """
    try:
        import fcntl
    except ImportError:
        fcntl = None  # type: ignore[assignment]
    if path is None or fcntl is None:
        yield
        return
    lock = _open_lock(path)
    if lock is None:
        yield
        return
    try:
        _await_lock(partial(fcntl.flock, lock, fcntl.LOCK_EX | fcntl.LOCK_NB), path, patience_s)
        yield
    finally:
        os.close(lock)  # also releases it, as the end of the process does


def _await_lock(lock: Callable[[], None], path: str, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return lock()
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise Unavailable(f"another process has held {path}.lock for {patience_s:g} s") from error
            time.sleep(_LOCK_LOOK_S)


def _open_lock(path: str) -> int | None:
    """Open the lock file; None if there is none and none can be made beside a database that is only read."""
    lock_path = f"{path}.lock"
    try:
        return os.open(lock_path, os.O_RDONLY)
    except FileNotFoundError:
        pass  # O_CREAT only now: Linux refuses it for another user's file in a shared sticky folder
    try:
        return os.open(lock_path, os.O_RDONLY | os.O_CREAT, 0o666)
    except OSError as error:
        if Path(path).exists():
            return None
        raise Unavailable(f"cannot create {path!r}: {error.strerror} - make its folder writable") from error


@contextmanager
def patience_for(size_bytes: int) -> Iterator[None]:
    """Let MLflow wait longer for the answer to a large upload, unless the user has set how long."""
    before = os.environ.get(_TIMEOUT, "")
    if before != _SETTINGS[_TIMEOUT]:
        yield
        return
    os.environ[_TIMEOUT] = str(TIMEOUT_S + size_bytes // _SLOWEST_UPLOAD)
    try:
        yield
    finally:
        os.environ[_TIMEOUT] = before
