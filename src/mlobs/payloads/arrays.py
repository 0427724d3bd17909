"""Arrays of any library as NumPy's: NumPy, torch (also on a GPU), TensorFlow, JAX, lists, pandas.

NumPy is imported when an array is logged: who logs one has it loaded.
"""

from __future__ import annotations

from typing import Any

from mlobs.errors import UsageError
from mlobs.values import repr_of


def as_array(call: str, value: Any) -> Any:
    """The value as a NumPy array, without a copy where its library allows it.

    Raises:
        UsageError: it is no array of numbers.
    """
    import numpy as np

    for method in ("detach", "cpu"):  # torch: out of the graph, off the GPU
        if callable(step := getattr(value, method, None)):
            value = step()
    if str(getattr(value, "dtype", "")) == "torch.bfloat16":  # NumPy has no such type
        value = value.float()
    try:
        array = np.asarray(value)
    except Exception as error:  # whatever the library's own conversion raises
        raise UsageError(f"{call} got {type(value).__name__}, which is no array: {error}") from error
    if array.dtype.kind not in "buif":
        text = repr_of(value)
        shown = text if len(text) <= 60 else f"{text[:59]}…"  # noqa: PLR2004 - of one line
        raise UsageError(f"{call} got {shown} (dtype {array.dtype}); expected an array of real numbers")
    return array


def as_matrix(call: str, value: Any) -> Any:
    """The value as an array of two dimensions.

    Raises:
        UsageError: it has others, or is no array.
    """
    array = as_array(call, value)
    if array.ndim != 2:  # noqa: PLR2004 - rows and columns
        raise UsageError(f"{call} got an array of shape {array.shape}; expected two dimensions")
    return array
