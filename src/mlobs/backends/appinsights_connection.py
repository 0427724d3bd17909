"""Where telemetry goes and with whose leave: connection strings, credentials by name, redirects."""

from __future__ import annotations

import importlib
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from mlobs.errors import MissingPackage, UsageError

VARIABLE = "APPLICATIONINSIGHTS_CONNECTION_STRING"  # Microsoft's own libraries read the same
_OLD_VARIABLE = "APPINSIGHTS_INSTRUMENTATIONKEY"
_GLOBAL_ENDPOINT = "https://dc.services.visualstudio.com"  # both client libraries' default
_AUDIENCE = "https://monitor.azure.com/"
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_FACTORY = re.compile(r"[\w.]+:[\w.]+")
_CLASSES = {  # of azure-identity
    "default": "DefaultAzureCredential",
    "managed-identity": "ManagedIdentityCredential",
    "environment": "EnvironmentCredential",
    "cli": "AzureCliCredential",
}
_one_at_a_time = threading.Lock()
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_EXAMPLE = "InstrumentationKey=00000000-0000-0000-0000-000000000000;IngestionEndpoint=https://..."


@dataclass(frozen=True)
class Connection:
    """A resource: its key, the service's address without a slash at the end, the tokens' audience."""

    key: str
    endpoint: str
    audience: str = _AUDIENCE

    @property
    def scope(self) -> str:
        """What a token is asked for."""
        return f"{self.audience}/.default"


def parse(connection_string: str | None) -> Connection:
    """Read a connection string as the portal shows it; keys in any case, a `;` at its end is allowed.

    Raises:
        UsageError: there is none, or it names no instrumentation key, or no address.
    """
    if not connection_string:
        raise UsageError(
            f"Application Insights needs a connection string - set {VARIABLE}, or connection_string=; "
            "the portal shows it on the resource's overview page"
        )
    pairs = [part.partition("=") for part in connection_string.split(";") if part.strip()]
    fields = {name.strip().lower(): value.strip() for name, _, value in pairs}
    key = fields.get("instrumentationkey", "").lower()
    if not _GUID.fullmatch(key):
        raise UsageError(f"the connection string names no instrumentation key - expected {_EXAMPLE!r}")
    endpoint = (fields.get("ingestionendpoint") or _built(fields)).rstrip("/")
    if urlsplit(endpoint).scheme not in ("http", "https") or not urlsplit(endpoint).hostname:
        raise UsageError(f"IngestionEndpoint is {endpoint!r}; expected an address such as 'https://...'")
    return Connection(key, endpoint, fields.get("aadaudience") or _AUDIENCE)


def check_credential(credential: str | None, endpoint: str) -> None:
    """Refuse what cannot work before anything is sent.

    Raises:
        UsageError: it is no known name, or a token would go over the net in the clear.
    """
    if credential is None:
        return
    if credential not in _CLASSES and not _FACTORY.fullmatch(credential):
        known = ", ".join(map(repr, _CLASSES))
        raise UsageError(
            f"credential is {credential!r}; expected {known}, or 'module:function' that returns a credential"
        )
    if not may_carry_token(endpoint):
        raise UsageError(f"a token must not go to {endpoint!r} in the clear - use https://")


def open_credential(credential: str) -> Any:
    """Return the credential object of that name; it asks for a token when it is used.

    Raises:
        MissingPackage: `azure-identity` is not installed.
    """
    if credential not in _CLASSES:
        module, _, name = credential.partition(":")
        return getattr(importlib.import_module(module), name)()
    try:
        import azure.identity
    except ImportError as error:
        raise MissingPackage("azure-identity", "appinsights") from error
    return getattr(azure.identity, _CLASSES[credential])()


def may_carry_token(endpoint: str) -> bool:
    """Tell whether nobody on the way can read what is sent there."""
    parts = urlsplit(endpoint)
    return parts.scheme == "https" or parts.hostname in _LOOPBACK


def is_loopback(endpoint: str) -> bool:
    """Tell whether the address is this very machine."""
    return urlsplit(endpoint).hostname in _LOOPBACK


def redirected(endpoint: str, location: str, *, has_token: bool) -> str | None:
    """The endpoint that an answer's `Location` moves us to; None if it must not be followed.

    With a token only another address of the same host is: whoever answers could else have the token
    sent to wherever they like. Without one, the data may move, but not from https to http.
    """
    before, after = urlsplit(endpoint), urlsplit(location)
    if after.scheme not in ("http", "https") or not after.hostname:
        return None
    is_downgrade = before.scheme == "https" and after.scheme != "https"
    if is_downgrade or (has_token and after.hostname != before.hostname):
        return None
    return f"{after.scheme}://{after.netloc}"


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables while a client is made, and hide those that say where to; then all is as before.

    Both libraries read the connection string of the environment even beside a given one, and refuse
    one that ends in `;`.
    """
    wanted: dict[str, str | None] = {VARIABLE: None, _OLD_VARIABLE: None, **values}
    with _one_at_a_time:  # two lanes would else each restore what the other has set
        before = {name: os.environ.get(name) for name in wanted}
        _set(wanted)
        try:
            yield
        finally:
            _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _built(fields: Mapping[str, str]) -> str:
    suffix, location = fields.get("endpointsuffix"), fields.get("location")
    if not suffix:
        return _GLOBAL_ENDPOINT
    return f"https://{f'{location}.' if location else ''}dc.{suffix}"
