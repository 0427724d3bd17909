"""Images: arrays of any library, PIL images and files, kept raw; the sender makes PNGs of them."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any, Literal, TypeAlias, get_args

from mlobs.errors import UsageError
from mlobs.payloads.arrays import as_array
from mlobs.payloads.files import existing
from mlobs.payloads.payload import Payload, clean_path, named

Layout: TypeAlias = Literal["HW", "HWC", "CHW"]

ARRAY = "array"  # the form of raw content: samples of `dtype` in C order, of `shape` [H, W] or [H, W, C]
_CHANNELS = (1, 3, 4)  # grey, RGB, RGB with alpha
_WITH_CHANNELS = 3  # dimensions
_MAX_SAMPLE = 255
# What a browser shows, by the file's first bytes: each format's own specification.
_TYPES = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif"}
_SUFFIXES = {"png": (".png",), "jpeg": (".jpg", ".jpeg"), "gif": (".gif",), "webp": (".webp",)}


def image(name: str, value: Any, layout: Layout | None = None) -> Payload:
    """An image under `name`: of an array, a PIL image, or a file, which stays as it is.

    Arrays have the shape [H, W], [H, W, C] or [C, H, W], with C of 1 (grey), 3 (RGB) or 4 (RGBA).
    Samples are uint8, other integers in [0, 255], booleans, or floats in [0, 1].

    Raises:
        UsageError: it is none of these, or `layout` has to be said.
    """
    if layout is not None and layout not in get_args(Layout):
        raise UsageError(f"log_image({name!r}): layout is {layout!r}; expected {', '.join(get_args(Layout))}")
    if isinstance(value, str | PurePath):
        return _of_file(name, existing(value, "log_image"))
    if callable(getattr(value, "getbands", None)) and callable(getattr(value, "tobytes", None)):
        value, layout = _of_pil(name, value), None
    samples, facts = _samples(name, _in_rows(name, as_array(f"log_image({name!r})", value), layout))
    raw = {"form": ARRAY, "dtype": str(samples.dtype), "shape": list(samples.shape), **facts}
    return Payload(named(name, ".png"), "image", "image/png", memoryview(samples).cast("B"), raw)


def _of_file(name: str, path: Path) -> Payload:
    content = path.read_bytes()
    is_webp = content.startswith(b"RIFF") and content[8:12] == b"WEBP"  # RIFF holds sounds too
    kind = next(
        (kind for head, kind in _TYPES.items() if content.startswith(head)), "webp" if is_webp else None
    )
    if kind is None:
        raise UsageError(
            f"log_image({name!r}): {path} is no PNG, JPEG, GIF or WebP - "
            "open it with PIL, or use log_artifact"
        )
    clean = clean_path(name)
    target = clean if clean.lower().endswith(_SUFFIXES[kind]) else clean + _SUFFIXES[kind][0]
    return Payload(target, "image", f"image/{kind}", content)


def _of_pil(name: str, value: Any) -> Any:
    """A PIL image of 8 bits a sample as an array; palettes and other colour models become RGB."""
    if value.mode in ("I", "F") or ";" in value.mode:
        raise UsageError(
            f"log_image({name!r}) got a PIL image of mode {value.mode!r}; expected 8 bits - "
            "scale it to floats in [0, 1] first"
        )
    if value.mode not in ("L", "RGB", "RGBA"):
        has_alpha = "transparency" in value.info or value.mode in ("LA", "PA", "La", "RGBa")
        value = value.convert("L" if value.mode == "1" else "RGBA" if has_alpha else "RGB")
    return as_array(f"log_image({name!r})", value)


def _in_rows(name: str, array: Any, layout: Layout | None) -> Any:
    """The array as [H, W] or [H, W, C]."""
    layout = layout or _guessed(name, array.shape)
    is_fitting = array.ndim == len(layout)
    channels = {"HW": 1, "HWC": array.shape[-1], "CHW": array.shape[0]}[layout] if is_fitting else 0
    if channels not in _CHANNELS or 0 in array.shape:
        raise UsageError(
            f"log_image({name!r}) got shape {array.shape} as {layout}; "
            "expected pixels with 1, 3 or 4 channels"
        )
    rows = array.transpose(1, 2, 0) if layout == "CHW" else array
    return rows[:, :, 0] if layout != "HW" and channels == 1 else rows


def _guessed(name: str, shape: tuple[int, ...]) -> Layout:
    if len(shape) == 2:  # noqa: PLR2004 - height and width
        return "HW"
    first, last = (shape[0] in _CHANNELS, shape[-1] in _CHANNELS) if len(shape) == _WITH_CHANNELS else (0, 0)
    if first == last:
        hint = "say layout='HWC' or layout='CHW'" if first else "log one image a call"
        raise UsageError(
            f"log_image({name!r}) got an array of shape {shape}; "
            f"expected [H, W], [H, W, C] or [C, H, W] - {hint}"
        )
    return "CHW" if first else "HWC"


def _samples(name: str, rows: Any) -> tuple[Any, dict[str, Any]]:
    """The samples as uint8 in C order, and what was lost on the way."""
    import numpy as np

    if rows.dtype == np.uint8:
        return np.ascontiguousarray(rows), {}
    if rows.dtype.kind == "b":
        return np.multiply(rows, np.uint8(_MAX_SAMPLE), order="C"), {}
    if rows.dtype.kind in "ui":
        if rows.min() < 0 or rows.max() > _MAX_SAMPLE:
            raise UsageError(
                f"log_image({name!r}) got {rows.dtype} from {rows.min()} to {rows.max()}; "
                "expected 0 to 255, or floats in [0, 1]"
            )
        return rows.astype(np.uint8, order="C"), {}
    loss: dict[str, Any] = {"from": f"{rows.dtype}, rounded to 8 bits"}
    if not (rows.min() >= 0 and rows.max() <= 1):  # NaN answers neither
        outside = ~((rows >= 0) & (rows <= 1))
        loss["outside"] = int(outside.sum())
        rows = np.clip(np.nan_to_num(rows, nan=0.0), 0, 1)
    # Scaled in the type it came in; a half cannot hold all steps of 8 bits.
    wide = rows if rows.itemsize > 2 else rows.astype(np.float32)  # noqa: PLR2004 - bytes of a half
    return (wide * wide.dtype.type(_MAX_SAMPLE) + wide.dtype.type(0.5)).astype(np.uint8, order="C"), loss
