"""What mlobs has no kind for, as files that other programs open: WAV, NPZ, NPY, TSV. Pure."""

from __future__ import annotations

import io
import wave
from collections.abc import Mapping, Sequence
from typing import Any

from mlobs.errors import UsageError
from mlobs.payloads.arrays import as_array, as_matrix

_MAX_SAMPLE = 32767  # of 16 bits


def wav(sound: Any, sample_rate: int) -> bytes:
    """Encode samples in [-1, 1] as mono WAV of 16 bits; what is outside is cut."""
    array = as_array("add_audio", sound).squeeze()
    if array.ndim != 1:
        raise UsageError(f"add_audio got shape {array.shape}; expected [1, L] or [L]")
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(int(sample_rate))
        file.writeframes((array.clip(-1, 1) * _MAX_SAMPLE).astype("<i2").tobytes())
    return content.getvalue()


def npz(arrays: Mapping[str, Any]) -> bytes:
    """Pack arrays as NumPy's NPZ; those that are None are left out."""
    import numpy as np

    content = io.BytesIO()
    given = {name: as_array("add_mesh", one) for name, one in arrays.items() if one is not None}
    np.savez_compressed(content, **given)
    return content.getvalue()


def npy(array: Any) -> bytes:
    """Write an array as NumPy's NPY."""
    import numpy as np

    content = io.BytesIO()
    np.save(content, as_array("add_tensor", array), allow_pickle=False)
    return content.getvalue()


def vectors_tsv(matrix: Any) -> bytes:
    """Write vectors, a row each, as TensorBoard's Embedding Projector loads them."""
    rows = as_matrix("add_embedding", matrix).tolist()
    return "".join("\t".join(map(repr, row)) + "\n" for row in rows).encode()


def metadata_tsv(labels: Sequence[Any], header: Sequence[str] | None) -> bytes:
    """Write labels, one a line, as the Embedding Projector loads them; with a header, several columns."""
    lines = [[str(one)] for one in labels] if header is None else [list(header), *labels]
    return "".join("\t".join(_cell(one) for one in line) + "\n" for line in lines).encode()


def _cell(value: object) -> str:
    return " ".join(str(value).split())  # a tab or a line's end would be a cell of its own
