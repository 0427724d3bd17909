"""pin and name: data that lies elsewhere, by the version that its storage keeps. Nothing here uses a network.

A pin proves as much as its storage: that version n of a table is still version n. A URI without a version
is a name, which proves nothing. Keys, signatures and passwords are taken out of both.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from mlobs.errors import MissingPackage, UsageError
from mlobs.repro.fingerprint_value import Fingerprint
from mlobs.secrets import masked, says_secret

_SCHEME = re.compile(r"^(?:[A-Za-z][A-Za-z0-9+.-]+://|azureml:|delta:)")
_CONTAINERS = frozenset({"abfs", "abfss", "wasb", "wasbs"})  # what stands before their @ is no user
_VERSION_KEYS = frozenset({"versionid", "snapshot", "generation"})  # S3 and Azure Blob, Azure Blob, Google
_NO_VERSION = frozenset({"", "null"})  # of S3, for what was written before versions were kept: it changes
_SIGNATURE_KEYS = frozenset(
    [
        "sv",
        "ss",
        "srt",
        "sp",
        "se",
        "st",
        "spr",
        "sr",
        "sig",
        "si",
        "sip",
        "skoid",
        "sktid",
        "skt",
        "ske",
        "sks",
        "skv",
        "saoid",
        "suoid",
        "scid",
        "sdd",
        "signature",
        "expires",
        "awsaccesskeyid",
        "googleaccessid",
        "policy",
        "key-pair-id",
    ]
)
_SIGNATURE_PREFIXES = ("x-amz-", "x-goog-")
_COMMIT = re.compile(r"@(?:sha256:)?[0-9a-f]{40,64}(?=$|/)")
_LAKEFS_COMMIT = re.compile(r"^/[0-9a-f]{64}(?=$|/)")
_AZUREML = re.compile(r"^azureml:(?!//)[^:@]+:(?!latest$)[^:@/]+$|/versions/[^/]+/?$")
_COMMIT_FILE = re.compile(r"^\d{20}\.json$")
_DELTA_VERSION = re.compile(r"^(?P<place>.+)@v?(?P<version>\d+)$")


def is_uri(text: str) -> bool:
    """Tell whether a text names data elsewhere: `s3://...`, `azureml:...`, `delta:...`."""
    return bool(_SCHEME.match(text))


def is_delta(folder: Path) -> bool:
    """Tell whether a folder is a Delta table."""
    return (folder / "_delta_log").is_dir()


def fingerprint_of_uri(uri: str) -> Fingerprint:
    """The fingerprint of a URI: "pinned" where it names a version that cannot change, else "name".

    Pinned are object versions of S3, Azure and Google, commits of lakeFS, of Git and of Hugging Face,
    versions of assets of Azure ML, and a Delta table on this machine (`delta:path`, `delta:path@3`).

    Raises:
        UsageError: `delta:` names a folder that is no Delta table, or it is no URI.
        MissingPackage: pyarrow, for a Delta table whose first commits are gone.
    """
    if uri.startswith("delta:"):
        found = _DELTA_VERSION.match(uri.removeprefix("delta:"))
        place = found["place"] if found else uri.removeprefix("delta:")
        if not is_uri(place):
            return fingerprint_of_delta(Path(place), int(found["version"]) if found else None)
    public, is_pinned = _public(uri)
    if is_pinned:
        return Fingerprint(f"pin:{public}", "pinned")
    return Fingerprint(f"name:{public}", "name", notes={"why": "the URI names no version that cannot change"})


def fingerprint_of_delta(folder: Path, version: int | None = None) -> Fingerprint:
    """The pin of a Delta table: its id, which a new table under its path does not have, and a version.

    Without `version` it is the latest. The log's format: the Delta transaction protocol, "Delta Log Entries".

    Raises:
        UsageError: it is no Delta table, or has no such version.
        MissingPackage: pyarrow, where only a checkpoint still tells the id.
    """
    log = folder / "_delta_log"
    commits = sorted(int(one.stem) for one in log.glob("*.json") if _COMMIT_FILE.match(one.name))
    if not commits:
        raise UsageError(
            f"{folder} is no Delta table: there is no commit in {log} - name the folder above _delta_log"
        )
    latest = commits[-1]
    if version is not None and not commits[0] <= version <= latest:
        raise UsageError(
            f"{folder} has the versions {commits[0]} to {latest}, not {version} - choose one of them"
        )
    return Fingerprint(
        f"pin:delta:{_table_id(log, commits)}@{latest if version is None else version}",
        "pinned",
        notes={"table": "Delta"},
    )


def _table_id(log: Path, commits: list[int]) -> str:
    for commit in reversed(commits):
        for line in (log / f"{commit:020}.json").read_text(encoding="utf-8").splitlines():
            if '"metaData"' in line and (about := json.loads(line).get("metaData")):
                return str(about["id"])
    for checkpoint in sorted(log.glob("*.checkpoint*.parquet"), reverse=True):
        for about in _checkpoint_metadata(checkpoint):
            return str(about["id"])
    raise UsageError(
        f"{log} does not say which table it is of - pass the folder's content with strength='content'"
    )


def _checkpoint_metadata(checkpoint: Path) -> list[Any]:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingPackage("pyarrow", "parquet") from error
    rows = pq.read_table(checkpoint, columns=["metaData"]).column(0).to_pylist()
    return [row for row in rows if row and row.get("id")]


def _public(uri: str) -> tuple[str, bool]:
    """A URI without its secrets, and whether it names a version that cannot change."""
    if not uri.partition(":")[2].startswith("//"):
        return masked(uri), uri.startswith("azureml:") and bool(_AZUREML.search(uri))
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise UsageError(f"{masked(uri)} is no URI ({error}) - check it, or give a path") from error
    query = [
        (key, value)
        for key, value in parse_qsl(parts.query, keep_blank_values=True)
        if not _is_key(key, value)
    ]
    # by hand: for a path of two slashes, which S3 has, `urlunsplit` gives more from Python 3.12.4 on
    place = masked(parts.path + _after("?", urlencode(query)) + _after("#", parts.fragment))
    public = f"{parts.scheme}://{_host(parts)}{place}"  # the container before an @ is no secret
    return public, _is_pinned(parts, query)


def _after(sign: str, text: str) -> str:
    return f"{sign}{text}" if text else ""


def _is_pinned(parts: SplitResult, query: list[tuple[str, str]]) -> bool:
    if any(key.lower() in _VERSION_KEYS and value.lower() not in _NO_VERSION for key, value in query):
        return True
    if parts.scheme == "gs" and parts.fragment.isdigit():  # its generation
        return True
    if parts.scheme == "lakefs":
        return bool(_LAKEFS_COMMIT.match(parts.path))
    if parts.scheme == "azureml":
        return bool(_AZUREML.search(parts.path))
    return bool(_COMMIT.search(unquote(parts.path)))


def _host(parts: SplitResult) -> str:
    """The host without a user and a password."""
    user, _, host = parts.netloc.rpartition("@")
    return parts.netloc if parts.scheme in _CONTAINERS and ":" not in user else host


def _is_key(key: str, value: str) -> bool:
    name = key.lower()
    return name in _SIGNATURE_KEYS or name.startswith(_SIGNATURE_PREFIXES) or says_secret(key, value)
