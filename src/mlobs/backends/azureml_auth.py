"""Who asks: a job's own token, an azure-identity credential, one of the SDK's classes, or a bare token."""

from __future__ import annotations

import base64
import importlib
import json
import os
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

from mlobs.backends.azureml_place import Job
from mlobs.errors import DeliveryError, MissingPackage, Unauthorized

IDENTITY: Mapping[str, str] = {  # classes of azure.identity; none of them opens a browser in the background
    "default": "DefaultAzureCredential",
    "environment": "EnvironmentCredential",
    "managed-identity": "ManagedIdentityCredential",
    "workload-identity": "WorkloadIdentityCredential",
    "cli": "AzureCliCredential",
}
SDK: Mapping[str, str] = {  # classes of azureml.core.authentication, which take the cloud alone
    "sdk-cli": "AzureCliAuthentication",
    "sdk-msi": "MsiAuthentication",
    "sdk-interactive": "InteractiveLoginAuthentication",
}
_RENEW_S = 300.0  # a token that ends sooner is asked for anew, as azure.identity itself does
SERVICE_PRINCIPAL = "sdk-service-principal"
CREDENTIALS = (*IDENTITY, *SDK, SERVICE_PRINCIPAL)


class Access(NamedTuple):
    """How to get in. `token` is a bearer token, `resource_manager` the address of a private cloud's."""

    credential: str
    cloud: str
    token: str | None = None
    resource_manager: str | None = None


def of(access: Access) -> Any:
    """Return the SDK's authentication for a workspace that no job belongs to."""
    auth = _made(access)
    if access.resource_manager:
        import copy

        auth._cloud_type = copy.deepcopy(auth._cloud_type)
        auth._cloud_type.endpoints.resource_manager = access.resource_manager
    return auth


def _made(access: Access) -> Any:
    from azureml.core import authentication

    # Without a name the SDK would ask Azure for the list of its clouds, at each start.
    cloud = access.cloud
    if access.token is not None:
        return authentication.TokenAuthentication(lambda _audience: access.token, cloud=cloud)
    if access.credential in SDK:
        return getattr(authentication, SDK[access.credential])(cloud=cloud)
    if access.credential == SERVICE_PRINCIPAL:
        names = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET")
        values = [os.environ.get(name, "") for name in names]
        if not all(values):
            raise Unauthorized(
                f"credential {SERVICE_PRINCIPAL!r} needs {', '.join(names)} in the environment"
            )
        return authentication.ServicePrincipalAuthentication(*values, cloud=cloud)
    try:
        identity = importlib.import_module("azure.identity")
    except ImportError as error:
        raise MissingPackage("azure.identity", "azureml") from error
    held = getattr(identity, IDENTITY[access.credential])()
    tokens: dict[
        str, Any
    ] = {}  # some credentials, such as that of the command line, start a process for each

    def token_for(audience: str) -> str:
        if audience not in tokens or tokens[audience].expires_on - time.time() < _RENEW_S:
            tokens[audience] = held.get_token(f"{audience}/.default")
        return str(tokens[audience].token)

    return authentication.TokenAuthentication(token_for, cloud=cloud)


def of_job(job: Job) -> Any:
    """Return the authentication of the job that this process is: its run's token, renewed before it ends."""
    from azureml.core.authentication import AzureMLTokenAuthentication, MsiAuthentication

    if os.environ.get("AZUREML_IDENTITY_IN_USE") == "Managed":
        return MsiAuthentication(cloud="AzureCloud")
    if expiry_of(os.environ["AZUREML_RUN_TOKEN"]) is None:
        raise Unauthorized("AZUREML_RUN_TOKEN is no token of a run: it has no end")
    token, _ = AzureMLTokenAuthentication._get_initial_token_and_expiry()
    return AzureMLTokenAuthentication.create(
        token,
        expiry_of(token),
        job.endpoint,
        job.workspace.subscription_id,
        job.workspace.resource_group,
        job.workspace.name,
        job.experiment,
        job.run_id,
        None,
        job.experiment_id,
    )


def refresh(auth: Any) -> None:
    """Renew a run's token that ends within 95 s, which is the SDK's own limit; others renew themselves.

    Raises:
        Unavailable, Unauthorized: it could not be renewed and has ended.
    """
    from azureml.core.authentication import AzureMLTokenAuthentication

    from mlobs.backends.azureml_errors import translated

    if isinstance(auth, AzureMLTokenAuthentication):
        try:
            with translated("a new token for the run", opening=True):
                auth._update_auth()
        except DeliveryError:
            ends = auth.expiry_time.replace(tzinfo=timezone.utc)
            if ends <= datetime.now(timezone.utc):
                raise  # until then the old one is good


def expiry_of(token: str) -> datetime | None:
    """Return the end of a JSON web token in UTC, without a zone as the SDK compares it; None if it has none.

    The SDK itself takes the local time for UTC here: east of Greenwich it would renew too late.
    """
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return datetime.fromtimestamp(float(claims["exp"]), timezone.utc).replace(tzinfo=None)
    except (IndexError, ValueError, KeyError, TypeError):
        return None
