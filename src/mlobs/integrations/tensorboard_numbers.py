"""Histograms and curves, counted as torch.utils.tensorboard counts them. Pure."""

from __future__ import annotations

import functools
from typing import Any

from mlobs.errors import UsageError
from mlobs.payloads.arrays import as_array

_MAX_THRESHOLDS = 127  # torch.utils.tensorboard's own limit
_SMALLEST_COUNT = 1e-7  # instead of a division by zero, as in TensorBoard's pr_curve summary


@functools.cache
def default_bins() -> list[float]:
    """The edges of `bins="tensorflow"`: a tenth wider each, from 1e-12 to 1e20, on both sides of 0."""
    positive = []
    edge = 1e-12
    while edge < 1e20:  # noqa: PLR2004 - torch.utils.tensorboard's own bound
        positive.append(edge)
        edge *= 1.1
    return [-one for one in reversed(positive)] + [0.0, *positive]


def histogram(tag: str, values: Any, bins: Any, max_bins: int | None) -> tuple[Any, Any, dict[str, int]]:
    """Count `values`; return the counts, one more edge, and how many values were not finite.

    Empty bins at both ends are left out. With more than `max_bins`, neighbours become one bin.

    Raises:
        UsageError: there is no finite value, or none lies in a bin.
    """
    import numpy as np

    array = as_array(f"add_histogram({tag!r})", values).astype(np.float64).ravel()
    finite = array[np.isfinite(array)]
    edges = default_bins() if isinstance(bins, str) and bins == "tensorflow" else bins
    counts, limits = np.histogram(finite, edges)
    if max_bins is not None and len(counts) > max_bins:
        counts, limits = _merged(counts, limits, len(counts) // max_bins)
    [filled] = np.nonzero(counts)
    if not filled.size:
        raise UsageError(f"add_histogram({tag!r}) got {array.size} values, of which none lies in a bin")
    first, last = int(filled[0]), int(filled[-1])
    lost = int(array.size - finite.size)
    return counts[first : last + 1], limits[first : last + 2], {"not_finite": lost} if lost else {}


def edges_of(smallest: float, limits: Any) -> Any:
    """Return all edges of bins whose right ones are `limits`; the first begins at the smallest value."""
    import numpy as np

    right = as_array("add_histogram_raw", limits).astype(np.float64).ravel()
    return np.concatenate([[min(float(smallest), *right[:1])], right])


def pr_curve(labels: Any, predictions: Any, num_thresholds: int, weights: Any) -> dict[str, Any]:
    """Count right and wrong answers for thresholds from 0 to 1; return the columns of a table.

    `labels` are 0 or 1, `predictions` in [0, 1].
    """
    import numpy as np

    truth = as_array("add_pr_curve", labels).astype(np.float64).ravel()
    scores = as_array("add_pr_curve", predictions).astype(np.float64).ravel()
    weight = 1.0 if weights is None else as_array("add_pr_curve", weights)
    number = min(num_thresholds, _MAX_THRESHOLDS)
    bucket = np.floor(scores * (number - 1)).astype(np.int32)
    right, _ = np.histogram(bucket, number, (0, number - 1), weights=truth * weight)
    wrong, _ = np.histogram(bucket, number, (0, number - 1), weights=(1 - truth) * weight)
    tp, fp = np.cumsum(right[::-1])[::-1], np.cumsum(wrong[::-1])[::-1]
    tn, fn = fp[0] - fp, tp[0] - tp
    precision = tp / np.maximum(_SMALLEST_COUNT, tp + fp)
    recall = tp / np.maximum(_SMALLEST_COUNT, tp + fn)
    return curve_table((tp, fp, tn, fn, precision, recall))


def curve_table(columns: tuple[Any, ...]) -> dict[str, Any]:
    """Return a table's columns of what TensorBoard draws a precision-recall curve from."""
    names = ("true_positives", "false_positives", "true_negatives", "false_negatives", "precision", "recall")
    lists = [as_array("add_pr_curve", one).astype(float).ravel().tolist() for one in columns]
    number = len(lists[0])
    thresholds = [index / max(number - 1, 1) for index in range(number)]
    return {"threshold": thresholds, **dict(zip(names, lists, strict=True))}


def _merged(counts: Any, limits: Any, width: int) -> tuple[Any, Any]:
    """Make one bin of each `width` bins; the last may be narrower."""
    import numpy as np

    starts = np.arange(0, len(counts), width)
    return np.add.reduceat(counts, starts), np.append(limits[starts], limits[-1])
