"""Observability for machine learning: one call reaches every tracker, and nothing is lost.

Public names are loaded when they are first used, so `import mlobs` costs a training script nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlobs import backends as backends
    from mlobs.api import log_artifact as log_artifact
    from mlobs.api import log_artifacts as log_artifacts
    from mlobs.api import log_confusion_matrix as log_confusion_matrix
    from mlobs.api import log_dataset as log_dataset
    from mlobs.api import log_dict as log_dict
    from mlobs.api import log_figure as log_figure
    from mlobs.api import log_histogram as log_histogram
    from mlobs.api import log_image as log_image
    from mlobs.api import log_matrix as log_matrix
    from mlobs.api import log_metric as log_metric
    from mlobs.api import log_metrics as log_metrics
    from mlobs.api import log_model as log_model
    from mlobs.api import log_param as log_param
    from mlobs.api import log_params as log_params
    from mlobs.api import log_table as log_table
    from mlobs.api import log_text as log_text
    from mlobs.api import seed_everything as seed_everything
    from mlobs.api import set_tag as set_tag
    from mlobs.api import set_tags as set_tags
    from mlobs.api import start_run as start_run
    from mlobs.api import track as track
    from mlobs.comparing import RunComparison as RunComparison
    from mlobs.comparing import compare as compare
    from mlobs.delivery.report import BackendReport as BackendReport
    from mlobs.errors import DeliveryError as DeliveryError
    from mlobs.errors import MissingPackage as MissingPackage
    from mlobs.errors import MlobsError as MlobsError
    from mlobs.errors import ServerError as ServerError
    from mlobs.errors import StoreError as StoreError
    from mlobs.errors import Unauthorized as Unauthorized
    from mlobs.errors import Unavailable as Unavailable
    from mlobs.errors import UsageError as UsageError
    from mlobs.moving.exporting import export_runs as export_runs
    from mlobs.moving.importing import import_runs as import_runs
    from mlobs.moving.replaying import Replayed as Replayed
    from mlobs.moving.replaying import replay_runs as replay_runs
    from mlobs.moving.source import Imported as Imported
    from mlobs.opened import BackendRef as BackendRef
    from mlobs.read.frames import runs as runs
    from mlobs.read.point_frames import metric_frames as metric_frames
    from mlobs.read.point_frames import metrics as metrics
    from mlobs.read.record import RunRecord as RunRecord
    from mlobs.read.record import load_run as load_run
    from mlobs.read.run_summary import RunSummary as RunSummary
    from mlobs.reporting.report import report as report
    from mlobs.repro.fingerprint import fingerprint as fingerprint
    from mlobs.repro.fingerprint_diff import diff_fingerprints as diff_fingerprints
    from mlobs.repro.fingerprint_value import Fingerprint as Fingerprint
    from mlobs.repro.model_fingerprint import ModelPrint as ModelPrint
    from mlobs.repro.model_fingerprint import fingerprint_model as fingerprint_model
    from mlobs.repro.report import ReproReport as ReproReport
    from mlobs.repro.reproduce import reproduce as reproduce
    from mlobs.repro.verify import verify as verify
    from mlobs.run import Run as Run
    from mlobs.run import RunHandle as RunHandle
    from mlobs.run import current_run as current_run
    from mlobs.tracker import Tracker as Tracker
    from mlobs.version import __version__ as __version__

_EXPORTS = {
    "mlobs.api": [
        "log_artifact", "log_artifacts", "log_confusion_matrix", "log_dataset", "log_dict", "log_figure",
        "log_histogram", "log_image", "log_matrix", "log_metric", "log_metrics", "log_model", "log_param",
        "log_params", "log_table", "log_text", "seed_everything", "set_tag", "set_tags", "start_run", "track",
    ],
    "mlobs.comparing": ["RunComparison", "compare"],
    "mlobs.delivery.report": ["BackendReport"],
    "mlobs.errors": [
        "DeliveryError", "MissingPackage", "MlobsError", "ServerError", "StoreError", "Unauthorized",
        "Unavailable", "UsageError",
    ],
    "mlobs.moving.exporting": ["export_runs"],
    "mlobs.moving.importing": ["import_runs"],
    "mlobs.moving.replaying": ["Replayed", "replay_runs"],
    "mlobs.moving.source": ["Imported"],
    "mlobs.read.frames": ["runs"],
    "mlobs.read.point_frames": ["metric_frames", "metrics"],
    "mlobs.read.run_summary": ["RunSummary"],
    "mlobs.opened": ["BackendRef"],
    "mlobs.read.record": ["RunRecord", "load_run"],
    "mlobs.repro.fingerprint": ["fingerprint"],
    "mlobs.repro.fingerprint_diff": ["diff_fingerprints"],
    "mlobs.repro.fingerprint_value": ["Fingerprint"],
    "mlobs.repro.model_fingerprint": ["ModelPrint", "fingerprint_model"],
    "mlobs.repro.report": ["ReproReport"],
    "mlobs.repro.reproduce": ["reproduce"],
    "mlobs.repro.verify": ["verify"],
    "mlobs.reporting.report": ["report"],
    "mlobs.run": ["Run", "RunHandle", "current_run"],
    "mlobs.tracker": ["Tracker"],
    "mlobs.version": ["__version__"],
}  # fmt: skip
_HOME = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = [
    "BackendRef",
    "BackendReport",
    "DeliveryError",
    "Fingerprint",
    "Imported",
    "MissingPackage",
    "MlobsError",
    "ModelPrint",
    "Replayed",
    "ReproReport",
    "Run",
    "RunComparison",
    "RunHandle",
    "RunRecord",
    "RunSummary",
    "ServerError",
    "StoreError",
    "Tracker",
    "Unauthorized",
    "Unavailable",
    "UsageError",
    "__version__",
    "backends",
    "compare",
    "current_run",
    "diff_fingerprints",
    "export_runs",
    "fingerprint",
    "fingerprint_model",
    "import_runs",
    "load_run",
    "log_artifact",
    "log_artifacts",
    "log_confusion_matrix",
    "log_dataset",
    "log_dict",
    "log_figure",
    "log_histogram",
    "log_image",
    "log_matrix",
    "log_metric",
    "log_metrics",
    "log_model",
    "log_param",
    "log_params",
    "log_table",
    "log_text",
    "metric_frames",
    "metrics",
    "replay_runs",
    "report",
    "reproduce",
    "runs",
    "seed_everything",
    "set_tag",
    "set_tags",
    "start_run",
    "track",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "backends":
        return importlib.import_module("mlobs.backends")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return __all__
