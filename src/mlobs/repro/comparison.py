"""Two runs beside each other: params, data, metrics by step, and models. Pure: it reads records alone."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from mlobs.events import ModelFingerprint
from mlobs.names import SYSTEM_PREFIX
from mlobs.read.record import RunRecord
from mlobs.repro.dataset_comparison import compare_datasets
from mlobs.repro.model_fingerprint import ModelPrint, diff_models
from mlobs.text import param_text

if TYPE_CHECKING:
    import pandas as pd

_MOST_LEAVES = 10  # of a model, in a report
_UNIT = r"([_.\s-]*(ns|us|ms|s|secs?|seconds?|min|minutes?|h|hours?))?"
_CLOCK = re.compile(
    rf"((^|[/_.\s-])(?i:times?|duration|elapsed|latency|walltime|runtime)|[a-z](Time|Duration|Latency)){_UNIT}$"
    r"|(^|[/_.\s-])(?i:seconds|secs|sec|ms|throughput|fps|eta|it_s)$"
    r"|(^|[/_.\s-])(?i:time_(total|this_iter)_s|timestamp)$"  # as Ray Tune names them
    r"|((^|[/_.\s-])(?i:per)|[a-z]Per)[_\s-]?(?i:secs?|seconds?)$|(?i:[/_.\s-]per_s|/s)$"
)  # what a clock measured is never the same twice


class Tolerance(msgspec.Struct, frozen=True):
    """How far two values may be apart to count as equivalent: |a - b| <= atol + rtol * |a|.

    `of_metric` holds another rtol for single metrics, by name.
    """

    rtol: float = 1e-6
    atol: float = 0.0
    of_metric: dict[str, float] = {}


class Divergence(msgspec.Struct, frozen=True):
    """Where a metric first differs: `step`, both values, and how far apart they are relatively (0 to inf).

    `worst` is the largest such distance over all steps; `is_within` says that all are within the tolerance.
    """

    metric: str
    step: int
    first: float
    second: float
    relative: float
    worst: float
    is_within: bool


@dataclass(frozen=True)
class Comparison:
    """What two runs have in common, in sentences where they differ.

    `points` counts the values that both have; `ignored` are metrics that a clock or the machine's load
    makes; `models` counts fingerprints that both have. `uncertain` is data of which nobody can tell whether
    it is the same.
    """

    params: tuple[str, ...]
    datasets: tuple[str, ...]
    divergences: tuple[Divergence, ...]
    unmatched: tuple[str, ...]
    model_differences: tuple[str, ...]
    points: int
    models: int
    ignored: tuple[str, ...] = ()
    uncertain: tuple[str, ...] = ()

    @property
    def has_same_inputs(self) -> bool:
        """Params and data are the same, as far as both are known."""
        return not self.params and not self.datasets

    @property
    def has_known_inputs(self) -> bool:
        """The fingerprints of all data prove what it is."""
        return not self.uncertain

    @property
    def has_results(self) -> bool:
        """There is anything to compare."""
        return bool(self.points or self.models)

    @property
    def is_identical(self) -> bool:
        """Every value and every model is the same, to the last bit."""
        return not (self.divergences or self.unmatched or self.model_differences)

    @property
    def is_within_tolerance(self) -> bool:
        """Every value is within the tolerance; models may differ."""
        return not self.unmatched and all(one.is_within for one in self.divergences)

    def first_divergence(self) -> Divergence | None:
        """Where the runs part: the earliest step, and there the value that is furthest off."""
        return min(self.divergences, key=lambda one: (one.step, -one.relative), default=None)


def compare(first: RunRecord, second: RunRecord, tolerance: Tolerance) -> Comparison:
    """Put two runs beside each other; metrics by (name, step), NaN equals NaN."""
    divergences, unmatched, points, ignored = _metrics(first, second, tolerance)
    model_differences, models = _models(first, second)
    datasets, uncertain = compare_datasets(first.datasets, second.datasets)
    return Comparison(
        params=tuple(_params(first.params, second.params)),
        datasets=tuple(datasets),
        divergences=tuple(divergences),
        unmatched=tuple(unmatched),
        model_differences=tuple(model_differences),
        points=points,
        models=models,
        ignored=tuple(ignored),
        uncertain=tuple(uncertain),
    )


def compare_inputs(first: RunRecord, second: RunRecord) -> tuple[list[str], list[str]]:
    """Say what differs of the params, and of the datasets; reads no points."""
    return list(_params(first.params, second.params)), compare_datasets(first.datasets, second.datasets)[0]


def _params(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    for name in {**first, **second}:
        texts = [param_text(side[name]) if name in side else None for side in (first, second)]
        texts = [None if one is None else re.sub(r" at 0x[0-9a-fA-F]+", "", one) for one in texts]
        if texts[0] != texts[1]:
            was, now = ("not set" if one is None else one for one in texts)
            yield f"param {name}: {was} -> {now}"


def _metrics(
    first: RunRecord, second: RunRecord, tolerance: Tolerance
) -> tuple[list[Divergence], list[str], int, list[str]]:
    import numpy as np

    sides = [_points(one) for one in (first, second)]
    names = {name for side in sides for name in side["key"].unique()}
    ignored = sorted(name for name in names if _CLOCK.search(name))
    sides = [side[~side["key"].isin(ignored)] for side in sides]
    both = sides[0].merge(
        sides[1], how="outer", on=["key", "step", "nth"], indicator=True, suffixes=("_1", "_2")
    )
    alone = both[both["_merge"] != "both"]
    unmatched = [
        f"metric {name}: {len(rows):,} values of one run alone, the first at step {rows['step'].min()}"
        for name, rows in alone.groupby("key", sort=True)
    ]
    common = both[both["_merge"] == "both"]
    left, right = common["value_1"].to_numpy(float), common["value_2"].to_numpy(float)
    is_same = (left == right) | (np.isnan(left) & np.isnan(right))
    return _divergences(common[~is_same], tolerance), unmatched, len(common), ignored


def _divergences(differing: pd.DataFrame, tolerance: Tolerance) -> list[Divergence]:
    found = []
    for name, rows in differing.sort_values("step", kind="stable").groupby("key", sort=True):
        rtol = tolerance.of_metric.get(str(name), tolerance.rtol)
        pairs = list(zip(rows["step"], rows["value_1"], rows["value_2"], strict=True))
        step, one, other = pairs[0]
        distances = [_relative(a, b) for _, a, b in pairs]
        is_within = all(_is_near(a, b, tolerance.atol + rtol * abs(a)) for _, a, b in pairs)
        found.append(
            Divergence(
                str(name), int(step), float(one), float(other), distances[0], max(distances), bool(is_within)
            )
        )
    return found


def _is_near(one: float, other: float, allowed: float) -> bool:
    """Tell whether two values are so near; NaN and infinities are near nothing."""
    return math.isfinite(one) and math.isfinite(other) and abs(one - other) <= allowed


def _relative(one: float, other: float) -> float:
    if not (math.isfinite(one) and math.isfinite(other)):
        return math.inf
    return float(abs(one - other) / max(abs(one), abs(other)))


def _points(record: RunRecord) -> pd.DataFrame:
    """The points of training: which one of several of a step, too."""
    frame: pd.DataFrame = record.metrics[["key", "step", "value"]]
    frame = frame[~frame["key"].astype(str).str.startswith(SYSTEM_PREFIX)].copy()
    frame["key"] = frame["key"].astype(str)
    frame["nth"] = frame.groupby(["key", "step"]).cumcount()
    return frame


def model_differences(first: RunRecord, second: RunRecord) -> list[str]:
    """How the fingerprints of two runs' models differ, a line each."""
    return _models(first, second)[0]


def _models(first: RunRecord, second: RunRecord) -> tuple[list[str], int]:
    before = {(one.name, one.step): one for one in first.models}
    after = {(one.name, one.step): one for one in second.models}
    alone = [key for key in {**before, **after} if (key in before) != (key in after)]
    differences = [f"model {name} was recorded by one run alone" for name, _ in alone]
    common = [key for key in before if key in after]
    for key in common:
        one, other = _model(before[key]), _model(after[key])
        differences += [f"model {key[0]}: {what}" for what in diff_models(one, other)[:_MOST_LEAVES]]
    return differences, len(common)


def _model(event: ModelFingerprint) -> ModelPrint:
    return ModelPrint(event.fingerprint, event.leaves, (event.meta or {}).get("library"), 0.0)
