"""The errors of mlobs, one tree: a class exists only if somebody catches it differently.

MlobsError
├── UsageError            the caller's input is wrong: names, values, options (also a ValueError)
├── StoreError            the local store cannot be used: not writable, full, not a store (also an OSError)
└── DeliveryError         a backend could not take a batch
    ├── Unavailable       not now: down, slow, throttled; the batch is sent again later
    │   └── ServerError   it failed at this batch: it is in trouble, or something in the batch breaks it
    ├── Unauthorized      not with these credentials; the lane pauses and says so
    └── MissingPackage    the vendor's package is not installed; the events wait
"""

from __future__ import annotations

import errno


class MlobsError(Exception):
    """Everything that mlobs raises on purpose."""


class UsageError(MlobsError, ValueError):
    """The caller gave something that cannot be used; the message says what to type instead."""


class StoreError(MlobsError, OSError):
    """The local store cannot be read or written; the message names the path and the remedy."""

    def __str__(self) -> str:
        return f"{self.strerror} ({self.filename})" if self.filename else str(self.strerror)

    @classmethod
    def of(cls, error: OSError, path: object, problem: str) -> StoreError:
        """Say what the operating system refused, and what to do about it."""
        is_full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
        remedy = "free the disk" if is_full else "choose another store with MLOBS_STORE or store="
        return cls(error.errno or 0, f"{problem}: {error.strerror or error} - {remedy}", str(path))


class DeliveryError(MlobsError):
    """A backend could not take a batch. Backends raise its subclasses from `deliver`."""


class Unavailable(DeliveryError):
    """The backend cannot answer now; the same batch is delivered again later.

    `retry_after_s` is the pause in seconds that the backend asked for (HTTP `Retry-After`),
    or None, and the lane chooses.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ServerError(Unavailable):
    """The backend failed at this batch (HTTP 500, a connection closed without an answer).

    Either it is in trouble, or something in the batch breaks it. Where the capabilities say
    `stores_once`, the lane finds out which, and rejects an event that breaks it; else, or as long
    as that is not certain, this is like any other `Unavailable`.
    """


class Unauthorized(DeliveryError):
    """The backend refuses these credentials; retrying by itself would not help."""


class MissingPackage(DeliveryError):
    """The vendor's package is not installed in this interpreter."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"package {package!r} is not installed - type: pip install 'mlobs[{extra}]'")
        self.package = package
        self.extra = extra
