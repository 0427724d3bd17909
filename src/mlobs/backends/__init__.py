"""The built-in backends, one file each, loaded when they are named."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlobs.backends.appinsights import AppInsights as AppInsights
    from mlobs.backends.azureml import AzureML as AzureML
    from mlobs.backends.console import Console as Console
    from mlobs.backends.mlflow import MLflow as MLflow
    from mlobs.backends.tensorboard import TensorBoard as TensorBoard

_EXPORTS = {
    "AppInsights": "mlobs.backends.appinsights",
    "AzureML": "mlobs.backends.azureml",
    "Console": "mlobs.backends.console",
    "MLflow": "mlobs.backends.mlflow",
    "TensorBoard": "mlobs.backends.tensorboard",
}

__all__ = ["AppInsights", "AzureML", "Console", "MLflow", "TensorBoard"]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return __all__
