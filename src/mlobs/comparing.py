"""Runs beside each other: what differs of all that went into them and came out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from mlobs.errors import MlobsError, UsageError
from mlobs.events import Dataset
from mlobs.names import SYSTEM_PREFIX
from mlobs.read.location import StoreLike, find_runs, open_store
from mlobs.read.record import RunRecord
from mlobs.repro.comparison import model_differences
from mlobs.repro.differences import diff_environments
from mlobs.repro.material import Material, readable
from mlobs.repro.run_diff import code_diff, entry_diff
from mlobs.repro.whole_run import load_whole_run
from mlobs.text import param_text

if TYPE_CHECKING:
    import pandas as pd

_HEAD = 12  # digits of a fingerprint that a person compares
_MOST_LINES = 40  # of a code diff in a table; `code` has all of it
_TABLES = ("params", "metrics", "datasets")
_LISTS = ("start", "environment", "code", "models")


@dataclass(frozen=True)
class RunComparison:
    """What differs between runs. `str` is for a terminal; notebooks show tables.

    - `runs`: a frame with a row for each run: `name`, `experiment`, `status`, `started`, `duration_s`.
    - `all_params`, `all_metrics` (last values, without the load of the machine) and `all_datasets`: frames
      with a row for each name and a column for each run, pandas.NA where it has none of it; `params`,
      `metrics` and `datasets` are the rows that differ.
    - `start`, `environment`, `code` (a unified diff) and `models`: for each run but the first, by its id, the
      lines that tell what is other there than in the first.
    - `unknown`: for each run of which a part was not captured, by its id, the lines that say which and why.
      Of such a part nobody can tell whether it differs.
    """

    runs: pd.DataFrame
    all_params: pd.DataFrame
    all_metrics: pd.DataFrame
    all_datasets: pd.DataFrame
    start: Mapping[str, tuple[str, ...]]
    environment: Mapping[str, tuple[str, ...]]
    code: Mapping[str, tuple[str, ...]]
    models: Mapping[str, tuple[str, ...]]
    unknown: Mapping[str, tuple[str, ...]]

    @property
    def params(self) -> pd.DataFrame:
        """The params that differ."""
        return _differing(self.all_params)

    @property
    def metrics(self) -> pd.DataFrame:
        """The metrics whose last values differ."""
        return _differing(self.all_metrics)

    @property
    def datasets(self) -> pd.DataFrame:
        """The datasets that differ."""
        return _differing(self.all_datasets)

    def __bool__(self) -> bool:
        """Tell whether anything differs."""
        tables = any(len(getattr(self, name)) for name in _TABLES)
        return tables or any(any(lines.values()) for lines in self.lists().values())

    def tables(self) -> dict[str, pd.DataFrame]:
        """The whole tables by name: params, metrics and datasets, also what is the same."""
        return {name: getattr(self, f"all_{name}") for name in _TABLES}

    def lists(self) -> dict[str, Mapping[str, tuple[str, ...]]]:
        """What is told by lines, by name, and by the id of the run that is beside the first."""
        return {name: getattr(self, name) for name in _LISTS}

    def conclusion(self) -> list[str]:
        """Say that nothing differs, if that is so, and what is not known of which runs; a line each."""
        by_lines: dict[tuple[str, ...], list[str]] = {}
        for run_id, lines in self.unknown.items():
            by_lines.setdefault(lines, []).append(run_id)
        said = [f"not known of {', '.join(ids)}: {'; '.join(lines)}" for lines, ids in by_lines.items()]
        if not self:
            said.insert(0, "nothing differs of what is known" if said else "nothing differs")
        return said

    def __str__(self) -> str:
        parts = [self.runs.to_string()]
        parts += [f"{title}\n{frame.to_string()}" for title, frame in self._frames()]
        parts += [f"{title}\n" + "\n".join(lines) for title, lines in self._listed()]
        return "\n\n".join([*parts, *self.conclusion()])

    def _repr_html_(self) -> str:
        parts = [self.runs.to_html()]
        parts += [f"<h4>{escape(title)}</h4>{frame.to_html()}" for title, frame in self._frames()]
        parts += [
            f"<h4>{escape(title)}</h4><pre>{escape(chr(10).join(lines))}</pre>"
            for title, lines in self._listed()
        ]
        parts += [f"<p>{escape(line)}</p>" for line in self.conclusion()]
        return "\n".join(parts)

    def _frames(self) -> Iterator[tuple[str, pd.DataFrame]]:
        for name in _TABLES:
            frame = getattr(self, name)
            if len(frame):
                yield name, _without_na(frame)

    def _listed(self) -> Iterator[tuple[str, list[str]]]:
        for name, of_runs in self.lists().items():
            for run_id, lines in of_runs.items():
                if lines:
                    more = len(lines) - _MOST_LINES
                    cut = [f"... {more:,} more lines in .{name}[{run_id!r}]"] if more > 0 else []
                    yield f"{name}: {run_id}", [*lines[:_MOST_LINES], *cut]


def compare(runs: Iterable[str], *, store: StoreLike = None) -> RunComparison:
    """Return what differs between two or more runs; the first is the one that others are compared with.

    `runs` are ids, unique beginnings, or "latest". Of one that has just ended it waits until the sender has
    captured what it was made of, for at most a minute. Where a captured file is not here, a line says so.

    Raises:
        UsageError: there is no such run, or they are fewer than two.
        StoreError: there is no such store.
    """
    opened = open_store(store)
    ids = [folder.run_id for folder in find_runs(opened, runs)]
    if len(ids) < 2:  # noqa: PLR2004 - a comparison
        raise UsageError(f"compare got {len(ids)} run(s); expected two or more, such as compare([ID, ID])")
    return compare_records([load_whole_run(run_id, opened) for run_id in ids])


def compare_records(records: Sequence[RunRecord]) -> RunComparison:
    """Return what differs between runs that were read already."""
    import pandas as pd

    ids = [one.run_id for one in records]
    facts = {
        "name": [one.name for one in records],
        "experiment": [one.experiment for one in records],
        "status": [one.status for one in records],
        "started": [one.started for one in records],
        "duration_s": [one.duration_s for one in records],
    }
    materials = [Material.of(one) for one in records]
    return RunComparison(
        runs=pd.DataFrame(facts, pd.Index(ids, name="run_id")),
        all_params=_table(ids, [one.params for one in records], "param"),
        all_metrics=_table(ids, [_of_training(one.last_metrics) for one in records], "metric"),
        all_datasets=_table(ids, [_datasets(one.datasets) for one in records], "dataset"),
        start=_pairwise(materials, entry_diff),
        environment=_pairwise(materials, environment_diff),
        code=_pairwise(materials, code_diff),
        models=_pairwise(materials, lambda one, other: model_differences(one.run, other.run)),
        unknown={one.run.run_id: unknown for one in materials if (unknown := one.unknown())},
    )


def environment_diff(one: Material, other: Material) -> list[str]:
    """Say what is other in the environments and machines."""
    return diff_environments(one.surroundings, other.surroundings)


def lines_of(
    differences: Callable[[Material, Material], Iterable[str]], first: Material, second: Material
) -> tuple[str, ...]:
    """The lines that tell what differs, or one that says why nobody can tell: a file that is not here."""
    try:
        return tuple(differences(first, second))
    except MlobsError as error:
        return (f"cannot be compared here: {readable(error)}",)
    except OSError as error:
        return (f"cannot be compared here: {error}",)


def differing_rows(frame: pd.DataFrame) -> list[bool]:
    """Tell for each row of a table of a comparison whether its values differ."""
    return [len({_text(value) for value in row}) > 1 for row in frame.itertuples(index=False, name=None)]


def _differing(frame: pd.DataFrame) -> pd.DataFrame:
    found: pd.DataFrame = frame[differing_rows(frame)]
    return found


def _without_na(frame: pd.DataFrame) -> pd.DataFrame:
    """What a run lacks is empty; NaN and None stay, which are values that it recorded."""
    import pandas as pd

    columns = {
        name: pd.Series(["" if value is pd.NA else value for value in frame[name]], frame.index, dtype=object)
        for name in frame.columns
    }
    return pd.DataFrame(columns)


def _text(value: Any) -> str:
    """A value as a text that no other value, and nothing absent, has too."""
    import pandas as pd

    if value is pd.NA:
        return ""
    return f"{type(value) is str}{param_text(value)}"


def _table(ids: Sequence[str], of_runs: Sequence[Mapping[str, Any]], what: str) -> pd.DataFrame:
    import pandas as pd

    names = list(dict.fromkeys(name for values in of_runs for name in values))
    columns = {
        run_id: pd.Series([values.get(name, pd.NA) for name in names], dtype=object)
        for run_id, values in zip(ids, of_runs, strict=True)
    }
    frame: pd.DataFrame = pd.DataFrame(columns)
    frame.index = pd.Index(names, name=what, dtype=object)
    return frame


def _of_training(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith(SYSTEM_PREFIX)}


def _datasets(used: Iterable[Dataset]) -> dict[str, str]:
    """Versions and fingerprints, each short, by name and context."""
    found: dict[str, list[str]] = {}
    for one in used:
        scheme, _, digest = one.fingerprint.rpartition(":")
        version = f"{one.version} " if one.version else ""
        text = f"{version}{scheme}:{digest[:_HEAD]}".lstrip(":")
        found.setdefault(f"{one.name} ({one.context})", []).append(text)
    return {name: ", ".join(dict.fromkeys(texts)) for name, texts in found.items()}


def _pairwise(
    materials: Sequence[Material], differences: Callable[[Material, Material], Iterable[str]]
) -> dict[str, tuple[str, ...]]:
    first, *others = materials
    return {other.run.run_id: lines_of(differences, first, other) for other in others}
