"""The one table of settings: names, types, defaults, allowed values, and a line about each."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple


class Kind(NamedTuple):
    """What values a setting takes.

    `check` returns a value in its final form or raises ValueError; the environment's text goes
    through `from_text` first. `allowed` and `example` are for people.
    """

    allowed: str
    example: Any
    check: Callable[[Any], Any]
    from_text: Callable[[str], Any] = str


class Setting(NamedTuple):
    """One row of the table."""

    name: str
    about: str
    default: Any
    kind: Kind

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"MLOBS_{self.name.upper()}"


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(value)
    return value


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(value)  # noqa: TRY004 - the loader turns one type of error into its message
    return tuple(_text(name) for name in value)


def _split(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _folder(value: Any) -> Path:
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str) or not path or "://" in path:
        raise ValueError(value)
    return Path(path).expanduser()


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value < 0:
        raise ValueError(value)
    return float(value)


def _one_of(*words: str) -> Kind:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in words:
            raise ValueError(value)
        return value

    quoted = [f'"{word}"' for word in words]
    return Kind(f"{', '.join(quoted[:-1])} or {quoted[-1]}", words[0], check)


def _patience(value: Any) -> float:
    if _seconds(value) < 1.0:
        raise ValueError(value)
    return float(value)


def _capture(value: Any) -> bool | str:
    if not isinstance(value, bool) and value != "all":
        raise ValueError(value)
    return value  # type: ignore[no-any-return]


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(value)  # noqa: TRY004 - the loader turns one type of error into its message
    return value


def _interval(value: Any) -> float:
    if not MIN_INTERVAL_S <= _seconds(value) < math.inf:
        raise ValueError(value)
    return float(value)


def _truth(text: str) -> Any:
    """What a text of the environment says, if it says yes or no."""
    words = {"true": True, "1": True, "yes": True, "on": True}
    words |= {"false": False, "0": False, "no": False, "off": False}
    return words.get(text.lower(), text.lower())


MIN_INTERVAL_S = 0.5  # a sample of a tree with 50 processes takes 10 ms: 2 % of one core, niced

_TEXT = Kind("a text that is not empty", "churn", _text)
_NAMES = Kind("a list of names", ["mlflow", "tensorboard"], _names, _split)
_FOLDER = Kind("a folder on this machine", "/data/mlobs", _folder)
_SECONDS = Kind("seconds, 0 or more", 30.0, _seconds, float)


def _row(default: Any, kind: Kind, about: str) -> Any:
    return field(default=default, metadata={"kind": kind, "about": about})


@dataclass(frozen=True)
class Settings:
    """The settings of a tracker; `origins` says where each came from, by its name.

    `backend_options` holds the parameters of backends by the backend's name; the origin of a
    table of them is under `backends.NAME`.
    """

    experiment: str = _row("default", _TEXT, "the experiment that runs belong to")
    backends: tuple[str, ...] = _row((), _NAMES, "where runs are sent to, besides the local store")
    store: Path = _row(  # noqa: RUF009 - `_row` makes a field, which is no shared value
        Path(".mlobs"), _FOLDER, "the folder of the record; by default the nearest .mlobs upwards"
    )
    mode: Literal["online", "offline", "disabled"] = _row(
        "online",
        _one_of("online", "offline", "disabled"),
        "offline sends nothing until `mlobs sync`, disabled records nothing",
    )
    delivery: Literal["process", "thread"] = _row(
        "process",
        _one_of("process", "thread"),
        "whether a process of its own sends, or threads of the program",
    )
    finish_timeout_s: float = _row(
        30.0, _SECONDS, "seconds that a process may wait for delivery at its end, in all"
    )
    ranks: Literal["zero", "all", "each"] = _row(
        "zero",
        _one_of("zero", "all", "each"),
        "which of a launcher's processes record: rank 0, all into one run, or each its own run",
    )
    on_error: Literal["warn", "raise"] = _row(
        "warn", _one_of("warn", "raise"), "what a call does that cannot record its value"
    )
    on_conflict: Literal["keep_first", "overwrite", "raise"] = _row(
        "keep_first",
        _one_of("keep_first", "overwrite", "raise"),
        "what counts when a param is given another value",
    )
    secrets_allow: tuple[str, ...] = _row(
        (),
        Kind("a list of names", ["token"], _names, _split),
        "params and tags that are recorded though they look like secrets",
    )
    hang_timeout_s: float = _row(
        300.0,
        Kind("seconds, 1 or more", 300.0, _patience, float),
        "seconds after which a call of a backend's library that has not returned is given up",
    )
    capture_logs: bool | Literal["all"] = _row(
        False,
        Kind('true, false or "all"', True, _capture, _truth),
        "whether a run records what the program logs; with all also what it prints",
    )
    system_metrics: bool = _row(
        False,
        Kind("true or false", True, _switch, _truth),
        "whether the sender records the load of the program and its machine, under system/",
    )
    system_metrics_s: float = _row(
        10.0, Kind("seconds, 0.5 or more", 10.0, _interval, float), "seconds between two samples of it"
    )
    repro: Literal["auto", "full", "off"] = _row(
        "auto",
        _one_of("auto", "full", "off"),
        "what is kept of a run's code and environment: auto what changed since it was pushed, full all of it",
    )
    linger_s: float = _row(300.0, _SECONDS, "seconds that the sender goes on trying after the program ended")
    backend_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)


SETTINGS: Mapping[str, Setting] = {
    row.name: Setting(row.name, row.metadata["about"], row.default, row.metadata["kind"])
    for row in dataclasses.fields(Settings)
    if row.metadata
}
