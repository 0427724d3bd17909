"""Addresses of repositories without the secrets in them."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from mlobs.secrets import REDACTED, masked

_ACCOUNTS = ("git", "hg", "svn")  # the login that ssh needs; any other name may be a token
_SCP = re.compile(r"^(?:([^@/\s]*)@)?([^:/@\s]{2,}):(?!//)(.*)$", re.DOTALL)  # git@host:path, no drive letter


def public_url(url: str) -> str:
    """The address without user, password and the values of its query.

    Of ssh the login stays if it is `git`: the address is of no use without it, and it says nothing.
    """
    if "://" not in url:
        return masked(_public_scp(url))
    try:
        parts = urlsplit(url)
    except ValueError:  # no address that anybody could use, but it may hold a secret all the same
        return REDACTED
    user, _, host = parts.netloc.rpartition("@")
    login = user.partition(":")[0]
    is_needed = "ssh" in parts.scheme and login in _ACCOUNTS
    query = "&".join(
        f"{quote(name)}={REDACTED}" for name, _ in parse_qsl(parts.query, keep_blank_values=True)
    )
    if parts.query and not query:
        query = REDACTED
    return urlunsplit((parts.scheme, f"{login}@{host}" if is_needed else host, masked(parts.path), query, ""))


def _public_scp(url: str) -> str:
    match = _SCP.match(url)
    if match is None or not match[1]:
        return url
    login = match[1] if match[1] in _ACCOUNTS else ""
    return f"{login}@{match[2]}:{match[3]}" if login else f"{match[2]}:{match[3]}"
