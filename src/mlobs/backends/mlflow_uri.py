"""Which MLflow is meant: tracking URIs, made absolute and free of secrets. Nothing is opened here."""

from __future__ import annotations

import os
import re
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from mlobs.errors import UsageError

DEFAULT = "sqlite:///mlflow.db"  # MLflow's own default since 3.7, in the working directory
_DATABASES = frozenset({"sqlite", "postgresql", "mysql", "mssql"})  # mlflow.store.db.db_types
_SCHEMES = (*sorted(_DATABASES), "http", "https", "databricks", "uc")  # others are plugins'
_SQLITE = re.compile(r"(?P<scheme>sqlite(?:\+\w+)?):///(?P<path>[^?]+)(?P<query>\?.*)?")


def resolved(tracking_uri: object) -> str:
    """Return the URI with a SQLite path made absolute.

    Raises:
        UsageError: it is a file store, a database in memory, or no URI.
    """
    if not isinstance(tracking_uri, str):
        raise UsageError(
            f"tracking_uri is {tracking_uri!r}, not a text - type 'http://host:5000' for a server, "
            f"or {DEFAULT!r} for a database in a file"
        )
    scheme = _scheme(tracking_uri)
    if scheme == "sqlite":
        return _absolute(tracking_uri)
    if scheme == "file" or len(scheme) == 1 or tracking_uri.startswith((".", "/", "~")):
        raise UsageError(
            f"tracking_uri is {tracking_uri!r}, MLflow's file store, which MLflow has retired; expected a "
            f"database or a server - type tracking_uri={DEFAULT!r} or 'http://host:5000', and "
            "`mlflow migrate-filestore --help` tells how to bring the old runs along"
        )
    if "://" not in tracking_uri and not tracking_uri.startswith(("databricks", "uc:")):
        raise UsageError(
            f"tracking_uri is {tracking_uri!r}, not a URI - type 'http://{tracking_uri}' for a server, "
            f"or 'sqlite:///{tracking_uri}.db' for a database in a file"
        )
    if scheme not in _SCHEMES:
        import difflib

        for close in difflib.get_close_matches(scheme, _SCHEMES, n=1, cutoff=0.75):
            raise UsageError(f"tracking_uri is {tracking_uri!r}; did you mean {close}:// ?")
    return tracking_uri


def split_userinfo(uri: str) -> tuple[str, str | None, str | None]:
    """Return the URI without `user:password@`, and the two, or None where there is none."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri, None, None
    user, host = parts.netloc.rsplit("@", 1)
    name, _, password = user.partition(":")
    return urlunsplit(parts._replace(netloc=host)), unquote(name) or None, unquote(password) or None


def join_userinfo(uri: str, username: str | None, password: str | None) -> str:
    """Undo `split_userinfo`: the URI as MLflow has to be given it."""
    if not username and not password:
        return uri
    user = quote(username or "", safe="") + (f":{quote(password, safe='')}" if password else "")
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=f"{user}@{parts.netloc}"))


def is_database(uri: str) -> bool:
    """Tell whether MLflow opens a database itself, with no server in between."""
    return _scheme(uri) in _DATABASES


def sqlite_path(uri: str) -> str | None:
    """Return the database file of a resolved URI; None if it is no SQLite database."""
    match = _SQLITE.fullmatch(uri)
    return match["path"] if match else None


def page(uri: str, experiment_id: str, ref: str) -> str | None:
    """Return the run's page in the server's UI; None where no server is known to show it."""
    if _scheme(uri) not in {"http", "https"}:
        return None
    return f"{uri.rstrip('/')}/#/experiments/{experiment_id}/runs/{ref}"


def _scheme(uri: str) -> str:
    return uri.partition(":")[0].partition("+")[0].lower() if ":" in uri else ""


def _absolute(uri: str) -> str:
    match = _SQLITE.fullmatch(uri)
    if match is None or match["path"] == ":memory:":
        raise UsageError(
            f"tracking_uri is {uri!r}; expected a database file, since one in memory ends with its process - "
            f"type {DEFAULT!r} for a relative path, 'sqlite:////var/mlflow.db' for an absolute one"
        )
    path = os.path.abspath(match["path"])  # noqa: PTH100 - Path.absolute() keeps `..`
    return f"{match['scheme']}:///{path}{match['query'] or ''}"
