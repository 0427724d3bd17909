"""Opening a workspace: the SDK's import, who asks, and where the services are, each bounded in time."""

from __future__ import annotations

import os
from typing import Any

from mlobs.backends import azureml_auth
from mlobs.backends.azureml_client import Client, timeouts
from mlobs.backends.azureml_errors import translated
from mlobs.backends.azureml_place import Job, Workspace
from mlobs.errors import MissingPackage

_API = "2022-05-01"
_STUDIO = "https://ml.azure.com"
# Read when the SDK is imported. Its three tries take 224 s after a 429: the lane tries again.
_SETTINGS = {"AZUREML_DEFAULT_RETRIES": "0"}


def connect(job: Job | None, workspace: Workspace, access: azureml_auth.Access, timeout_s: float) -> Client:
    """Open the workspace: in a job by its token, elsewhere through Azure's resource manager.

    Raises:
        MissingPackage: `azureml-core` is not installed.
        Unauthorized: the credentials are refused, or there are none.
        Unavailable: no answer, or there is no such workspace.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import azureml.core  # noqa: F401 - about 2 s of CPU; it imports all that is used here
    except ImportError as error:
        raise MissingPackage("azureml.core", "azureml") from error
    with translated("the credentials", opening=True):
        auth = azureml_auth.of_job(job) if job is not None else azureml_auth.of(access)
    if job is not None:
        endpoints, workspace_id = {"history": job.endpoint}, os.environ.get("AZUREML_WORKSPACE_ID", "")
    else:
        endpoints, workspace_id = _found(workspace, auth, timeout_s)
    context = _context(workspace, workspace_id, endpoints, auth)
    return Client(context, workspace, endpoints.get("studio") or _STUDIO, job, timeout_s)


def _found(workspace: Workspace, auth: Any, timeout_s: float) -> tuple[dict[str, str], str]:
    """Ask the resource manager for the workspace, and the workspace for its services' addresses."""
    import requests

    with translated(f"workspace {workspace.name!r}", opening=True):
        manager = auth._cloud_type.endpoints.resource_manager.rstrip("/")
        answer = requests.get(
            f"{manager}{workspace.scope}",
            params={"api-version": _API},
            headers=auth.get_authentication_header(),
            timeout=timeouts(timeout_s),
        )
        answer.raise_for_status()
        properties = answer.json()["properties"]
        answer = requests.get(properties["discoveryUrl"], timeout=timeouts(timeout_s))
        answer.raise_for_status()
        return answer.json(), str(properties.get("workspaceId", ""))


def _context(workspace: Workspace, workspace_id: str, endpoints: dict[str, str], auth: Any) -> Any:
    """The SDK's own description of a workspace, with addresses that are known.

    The SDK would ask for them without a time limit, and believe a file in the home directory for ever.
    """
    from azureml._restclient.service_context import ServiceContext

    class Located(ServiceContext):  # type: ignore[misc]
        def _fetch_endpoints(self) -> dict[str, str]:
            history = os.environ.get("AZUREML_EXPERIMENTATION_HOST") or endpoints.get("history", "")
            keys = ("api", "experimentation", "hyperdrive", "modelmanagement", "studio")
            return {**{key: endpoints.get(key, history) for key in keys}, "history": history}

    return Located(
        workspace.subscription_id, workspace.resource_group, workspace.name, workspace_id, None, auth
    )
