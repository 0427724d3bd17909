"""Models from files, by the readers of their libraries that run nothing of what the file says.

A pickle is a program: none is loaded here.
"""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from mlobs.errors import UsageError
from mlobs.repro.number_arrays import TaggedArray

_SAFETENSORS = {  # their name of a dtype, numpy's name of it or of as many bits, and afp1's if numpy has none
    "BOOL": ("?", ""), "U8": ("<u1", ""), "I8": ("<i1", ""), "U16": ("<u2", ""), "I16": ("<i2", ""),
    "U32": ("<u4", ""), "I32": ("<i4", ""), "U64": ("<u8", ""), "I64": ("<i8", ""), "F16": ("<f2", ""),
    "F32": ("<f4", ""), "F64": ("<f8", ""), "C64": ("<c8", ""), "BF16": ("<u2", "bf16"),
    "F8_E4M3": ("<u1", "float8_e4m3fn"), "F8_E5M2": ("<u1", "float8_e5m2"),
    "F8_E8M0": ("<u1", "float8_e8m0fnu"),
}  # fmt: skip
_MAX_HEADER_BYTES = 100_000_000  # as the format's own reader allows


def load_model(path: Path) -> Any:
    """The model in a file, told by its suffix: an object of its library, or arrays by name.

    Raises:
        UsageError: no such file, a format that could run code, one that is not known, or a broken file.
    """
    if not path.is_file():
        what = "is a folder - give the file of the model in it" if path.is_dir() else "does not exist"
        raise UsageError(f"fingerprint_model: {path} {what}")
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise UsageError(
            f"fingerprint_model: {path.name} is not of a format that is read without running code "
            f"({', '.join(_READERS)}); pickles (.pkl, .joblib) are never loaded - load it yourself, if you "
            "trust it, and give the model: fingerprint_model(joblib.load(path))"
        )
    try:
        return read(path)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise UsageError(f"reading {path.name} needs {package} - type: pip install {package}") from error
    except Exception as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise UsageError(
            f"fingerprint_model: {path} cannot be read as {path.suffix} without running code: {reason} - if "
            "you trust it, load it yourself and give the model"
        ) from error


def _read_numpy(path: Path) -> Any:
    import numpy as np

    found = np.load(path, allow_pickle=False)
    if isinstance(found, np.ndarray):  # an .npz may be called .npy
        return found
    with found:
        return {name: found[name] for name in found.files}


def _read_safetensors(path: Path) -> dict[str, TaggedArray]:
    """https://github.com/huggingface/safetensors#format: u64 length, JSON header, tensors."""
    import numpy as np

    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > _MAX_HEADER_BYTES:
            raise ValueError(f"its header has {length} bytes")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    content = (
        np.memmap(path, dtype=np.uint8, mode="r")
        if path.stat().st_size > 8 + length
        else np.empty(0, np.uint8)
    )
    found = {}
    for name, facts in header.items():
        if facts["dtype"] not in _SAFETENSORS:
            raise ValueError(f"tensor {name!r} is of type {facts['dtype']}, which numpy cannot hold")
        dtype, kind = _SAFETENSORS[facts["dtype"]]
        begin, end = facts["data_offsets"]
        if not 0 <= begin <= end <= max(0, content.size - 8 - length):
            raise ValueError(f"tensor {name!r} lies outside of the file, which was cut off or is broken")
        values = np.asarray(content[8 + length + begin : 8 + length + end]).view(dtype)
        found[name] = TaggedArray(kind, values.reshape(facts["shape"]))
    return found


def _read_torch(path: Path) -> Any:
    """A state dict or other plain values; an object of another class is refused by torch itself."""
    torch = import_module("torch")
    try:
        return torch.load(str(path), weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError) as error:  # their text advises to load it with its code
        raise ValueError("it is no state dict, or holds more than plain values and tensors") from error


def _read_xgboost(path: Path) -> Any:
    return import_module("xgboost").Booster(model_file=str(path))


def _read_lightgbm(path: Path) -> Any:
    return import_module("lightgbm").Booster(model_file=str(path), params={"verbose": -1})


def _read_catboost(path: Path) -> Any:
    return import_module("catboost").CatBoost().load_model(str(path))


def _read_keras(path: Path) -> Any:
    return import_module("keras").saving.load_model(str(path), compile=False, safe_mode=True)


def _read_onnx(path: Path) -> Any:
    return import_module("onnx").load(str(path))


_READERS: dict[str, Callable[[Path], Any]] = {
    ".safetensors": _read_safetensors,
    ".npz": _read_numpy,
    ".npy": _read_numpy,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".ckpt": _read_torch,
    ".bin": _read_torch,
    ".json": _read_xgboost,
    ".ubj": _read_xgboost,
    ".txt": _read_lightgbm,
    ".cbm": _read_catboost,
    ".keras": _read_keras,
    ".onnx": _read_onnx,
}
