"""Models of torch as plain values: classes and tensors by their path, whatever wraps the module."""

from __future__ import annotations

import sys
from typing import Any

from mlobs.repro.model_names import Named, lineage
from mlobs.repro.model_scalars import qualified
from mlobs.repro.number_arrays import TaggedArray

_WRAPPERS = {"DistributedDataParallel": "module", "DataParallel": "module", "OptimizedModule": "_orig_mod"}
_SPREAD = {("torch", "DTensor"), ("torch", "ShardedTensor")}
_BITS = {1: "uint8", 2: "uint16", 4: "uint32", 8: "uint64"}


def module(value: Any) -> Named:
    """The classes of a module and of those in it, and its state dict, each by its path.

    What compiles it or spreads it over devices is not part: `DataParallel`, `DistributedDataParallel` and
    `torch.compile` are looked through, wherever they stand.
    """
    inside = dict(value.named_modules(remove_duplicate=False))
    wrapped = {_join(path, _WRAPPERS[name]) for path, one in inside.items() if (name := _wrapper(one))}
    parts = {}
    for path, one in inside.items():
        if not _wrapper(one):
            parts[_join(_bare(path, wrapped), "__class__")] = _class_name(one)
    return Named("torch", parts | {_bare(key, wrapped): one for key, one in value.state_dict().items()})


def exported(value: Any) -> Named:
    """The weights and constants of an exported program."""
    return Named("torch exported", {"state": dict(value.state_dict), "constants": dict(value.constants)})


def generator(value: Any) -> Named:
    """A generator of random numbers, by its state."""
    return Named("random torch", {"state": value.get_state()})


def storage(value: Any) -> Named:
    """The bytes of a storage."""
    held = value.untyped() if hasattr(value, "untyped") else value
    return Named("torch storage", {"bytes": bytes(held.cpu().tolist())})


def tensor(value: Any) -> TaggedArray | Named:
    """The values of a tensor, copied from its device if it is on another.

    Raises:
        TypeError: its values are not in this process.
    """
    held = value.detach()
    if held.is_meta:
        raise TypeError("it is on the device 'meta', without values")
    if not _SPREAD.isdisjoint(lineage(type(value))):
        raise TypeError("it is spread over processes: gather it with full_tensor() first")
    if held.is_quantized:
        parts = {"values": held.int_repr(), "scheme": str(held.qscheme()), "dtype": str(held.dtype)}
        return Named("torch quantized", {**parts, **_scales(held)})
    if str(held.layout) != "torch.strided":
        found = held.to_sparse_coo().coalesce()
        parts = {"shape": tuple(found.shape), "places": found.indices(), "values": found.values()}
        return Named("torch sparse", parts)
    return _dense(held.resolve_conj().resolve_neg().cpu().contiguous())


def _dense(held: Any) -> TaggedArray:
    torch = sys.modules["torch"]  # its tensor is there

    name = str(held.dtype).removeprefix("torch.")
    if name == "bfloat16" or name.startswith(("float8", "float4")):  # numpy has none of these
        bits = held.view(torch.int16 if held.element_size() == 2 else torch.uint8).numpy()  # noqa: PLR2004
        kind = "bf16" if name == "bfloat16" else name
        return TaggedArray(kind, bits.view(_BITS[held.element_size()]))
    return TaggedArray("", held.numpy())


def _scales(held: Any) -> dict[str, Any]:
    if "per_channel" in str(held.qscheme()):
        names = ["q_per_channel_scales", "q_per_channel_zero_points", "q_per_channel_axis"]
    else:
        names = ["q_scale", "q_zero_point"]
    return {name: getattr(held, name)() for name in names}


def _wrapper(one: Any) -> str:
    return next(
        (name for package, name in lineage(type(one)) if package == "torch" and name in _WRAPPERS), ""
    )


def _class_name(one: Any) -> str:
    """Where a class is defined; of a scripted module, what it was before."""
    return getattr(one, "original_name", None) or qualified(type(one))


def _bare(path: str, wrapped: set[str]) -> str:
    """A path without the steps that only go through a wrapper."""
    steps = path.split(".")
    kept = [step for i, step in enumerate(steps) if ".".join(steps[: i + 1]) not in wrapped]
    return ".".join(kept)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
