"""Datasets as versions in Azure ML's own register, where the package that makes them is installed.

The register holds where data lies, not the data: only a source that the workspace can read by itself, a web
address, is registered. The fingerprint goes with it as a tag.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from mlobs.backends.azureml_errors import translated
from mlobs.errors import DeliveryError
from mlobs.events import Dataset

_RUNTIME = "azureml.dataprep"  # of azureml-dataset-runtime, which the SDK makes datasets with
_MAX_DESCRIPTION = 500


def can_register(event: Dataset) -> bool:
    """Tell whether the dataset can be registered from here."""
    is_address = event.source is not None and event.source.startswith("https://")
    return is_address and importlib.util.find_spec(_RUNTIME) is not None


def register(context: Any, event: Dataset) -> str | None:
    """Register the dataset; return None, or the reason why it is not registered.

    An identical one that is registered already is that version: registering it again changes nothing. No
    trouble here holds the run back, since its file and its tag say the same.
    """
    from azureml.core import Dataset as AzureMLDataset
    from azureml.core import Workspace

    tags = {"mlobs.fingerprint": event.fingerprint, "mlobs.strength": event.strength}
    if event.version is not None:
        tags["mlobs.version"] = event.version
    try:
        with translated(f"dataset {event.name!r}"):
            workspace = Workspace._from_service_context(context, None)
            made = AzureMLDataset.File.from_files(event.source, validate=False)
            about = f"{event.context} data of a run, recorded by mlobs"[:_MAX_DESCRIPTION]
            made.register(workspace, event.name, about, tags, create_new_version=True)
    except DeliveryError as error:
        return str(error)
    return None
