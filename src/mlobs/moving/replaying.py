"""Any past run, to any backend: the lanes run over its journal once more."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from mlobs.backend import Backend
from mlobs.delivery.registry import class_of, public_spec, resolve, spec_of
from mlobs.delivery.report import BackendReport
from mlobs.errors import UsageError
from mlobs.moving.choosing import choose
from mlobs.read.location import StoreLike, open_store

_DIGITS = 6  # of the hash that tells two places of one kind apart
_WORDS: dict[str, Any] = {"true": True, "false": False}


@dataclasses.dataclass(frozen=True)
class Replayed:
    """What a backend has of a run now; `report` is None if it has none, and `problem` says why."""

    run_id: str
    backend: str
    report: BackendReport | None
    problem: str = ""

    @property
    def is_settled(self) -> bool:
        """The backend has answered for every event."""
        return self.report is not None and self.report.is_settled and not self.problem


def replay_runs(
    runs: str | Iterable[str] | None,
    to: str | Backend,
    *,
    experiment: str | None = None,
    store: StoreLike = None,
    options: Mapping[str, Any] | None = None,
) -> list[Replayed]:
    """Deliver past runs, imported ones too, to a backend, and return what it has of each.

    Nothing is sent twice.

    Each place has a delivery state of its own: with `options`, or as an object, a backend is called by its
    kind and a hash of where it is, such as "mlflow-3fa9c1", unless it is given a name.

    Args:
        runs: ids, beginnings of ids, or "latest"; None is all, or those of the `experiment`.
        to: a backend, or the name of one, whose options are those of the settings.
        experiment: all runs of this experiment.
        store: where the runs are.
        options: the backend's own, in place of the settings'.

    Raises:
        UsageError: there is no such run, backend or option.
        StoreError: there is no such store.
    """
    from mlobs.sender import foreground

    folders = choose(open_store(store), runs, experiment=experiment)
    name, params = destination(to, options or {})
    done = foreground.sync(folders, only=[name], options={name: params})
    return [Replayed(one.run_id, name, one.reports.get(name), one.problems.get(name, "")) for one in done]


def destination(to: str | Backend, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name of a place, and the options that make its backend.

    Raises:
        UsageError: there is no such backend or option.
    """
    if not isinstance(to, str):
        if options:
            raise UsageError("options go with a backend's name; this is a backend, which has its own")
        return _place(resolve([to], {})[0], is_named=False)
    from mlobs.config import load_settings, working_directory

    known = dict(load_settings(cwd=working_directory(), env=os.environ).backend_options.get(to, {}))
    if not options:
        resolve([to], {to: known})
        return to, known
    return _place(resolve([to], {to: {**known, **options}})[0], is_named="name" in options)


def typed(to: str, options: Mapping[str, str]) -> dict[str, Any]:
    """Read options that were typed as text, as the backend's fields want them.

    Raises:
        UsageError: there is no such backend, or a value cannot be read.
    """
    wanted = {one.name: str(one.type) for one in dataclasses.fields(class_of(to))}
    values: dict[str, Any] = {}
    for name, text in options.items():
        kind = wanted.get(name, "str")
        try:
            values[name] = _value(kind, text)
        except ValueError as error:
            raise UsageError(f"option {name} is {text!r}; expected {kind}") from error
    return values


def _value(kind: str, text: str) -> Any:
    if "str" in kind or "Literal" in kind:
        return text
    if "bool" in kind and text.lower() in _WORDS:
        return _WORDS[text.lower()]
    return int(text) if "int" in kind else float(text)


def _place(backend: Backend, *, is_named: bool) -> tuple[str, dict[str, Any]]:
    spec = spec_of(backend)
    default = next((one.default for one in dataclasses.fields(type(backend)) if one.name == "name"), None)  # type: ignore[arg-type]
    name = backend.name
    if not is_named and name == default:
        public = {key: value for key, value in public_spec(spec).params.items() if key != "name"}
        text = json.dumps(public, sort_keys=True, default=str)
        name = f"{name}-{hashlib.blake2b(text.encode()).hexdigest()[:_DIGITS]}"
    return name, {**spec.params, "type": spec.type, "name": name}
