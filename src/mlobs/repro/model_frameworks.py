"""Models of the frameworks as plain values: what their files say of the model, not of the day.

A framework is known by the names of a model's classes; none is imported here that is not already.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from mlobs.repro import model_tables, model_torch
from mlobs.repro.model_names import Named, lineage


def plain(value: Any) -> Any:
    """What stands in the walk for a value of a framework; None if it is of none."""
    of = lineage(type(value))
    for names, way in _WAYS:
        if not of.isdisjoint(names):
            return way(value)
    if hasattr(value, "__array__") and not {package for package, _ in of}.isdisjoint(_WITH_ARRAYS):
        import numpy as np

        return _numpy_way(np.asarray(value))
    return None


def library_of(model: Any) -> str | None:
    """The library whose model this is, with its version: "scikit-learn 1.9.1"; None for plain values."""
    packages = {package for package, _ in lineage(type(model))}
    for package, name in _LIBRARIES.items():
        if package in packages:
            version = getattr(sys.modules.get(package), "__version__", None)
            return f"{name} {version}" if version else name
    if isinstance(model, Mapping):
        return library_of(next(iter(model.values()), None))
    return None


def xgboost_booster(value: Any) -> Any:
    """The document that xgboost saves, without the version that wrote it and what an estimator adds."""
    document = json.loads(bytes(value.save_raw("json")))
    learner = document["learner"]
    learner.get("attributes", {}).pop("scikit_learn", None)
    return Named("xgboost", _compact(learner))


def _of_estimator(booster: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """An estimator is its booster, so that it equals its file; one that is not fitted is its parameters."""

    def way(value: Any) -> Any:
        fitted = value.__dict__.get("_Booster")
        return None if fitted is None else booster(fitted)

    return way


def lightgbm_booster(value: Any) -> Named:
    """The text that lightgbm saves: header and trees, without importances and training parameters."""
    text = value.model_to_string()
    body, _, rest = text.partition("\nend of trees\n")
    head, *trees = body.split("\nTree=")
    facts = dict(line.partition("=")[::2] for line in head.splitlines() if line)
    facts.pop("tree_sizes", None)
    _, has_categories, categories = rest.partition("\npandas_categorical:")
    facts |= {"pandas_categorical": categories.strip() if has_categories else "null"}
    return Named("lightgbm", {"head": facts, "trees": [one.partition("\n")[2].strip() for one in trees]})


def catboost_model(value: Any) -> Any:
    """The JSON that catboost exports, without when and how it was trained."""
    import tempfile
    from pathlib import Path

    if not value.is_fitted():
        return None
    with tempfile.TemporaryDirectory(prefix="mlobs-") as folder:
        file = Path(folder) / "model.json"
        value.save_model(str(file), format="json")
        document = json.loads(file.read_bytes())
    document.pop("model_info", None)
    return Named("catboost", _compact(document))


def keras_layer(value: Any) -> Named:
    """Class, configuration and weights. Names count by where they stand: keras numbers them by process."""
    layers = list(value._flatten_layers()) if hasattr(value, "_flatten_layers") else [value]  # noqa: SLF001
    names = {layer.name: f"layer {i}" for i, layer in enumerate(layers)} | {value.name: "model"}
    weights = {f"{i}.{one.name}": _array_of(one) for i, one in enumerate(value.weights)}
    config = _renamed(value.get_config(), names)
    return Named("keras", {"__class__": type(value).__name__, "config": config, "weights": weights})


def onnx_model(value: Any) -> Named:
    """Graph, constants by name, operator sets in order of their domain; not who wrote it, and when."""
    from onnx import numpy_helper

    graph = type(value.graph)()
    graph.CopyFrom(value.graph)
    constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    del graph.initializer[:]
    graph.doc_string = ""
    parts = {
        "graph": graph.SerializeToString(deterministic=True),
        "constants": constants,
        "opsets": {one.domain or "ai.onnx": one.version for one in value.opset_import},
        "functions": sorted(one.SerializeToString(deterministic=True) for one in value.functions),
        "metadata": {one.key: one.value for one in value.metadata_props},
    }
    return Named("onnx", parts)


def _renamed(config: Any, names: Mapping[str, str], *, is_name: bool = False) -> Any:
    """A configuration with places for names, where names stand: an activation may be called like a layer."""
    if isinstance(config, Mapping):
        kept = {key: one for key, one in config.items() if key not in {"shared_object_id", "date_saved"}}
        return {
            key: _renamed(one, names, is_name=is_name or key in _KEYS_OF_NAMES) for key, one in kept.items()
        }
    if isinstance(config, list | tuple):
        return [_renamed(one, names, is_name=is_name) for one in config]
    return names.get(config, config) if is_name and isinstance(config, str) else config


def _compact(document: Any) -> Any:
    """The same JSON with its lists of numbers as arrays: one leaf each, and digested at once."""
    if isinstance(document, dict):
        return {key: _compact(one) for key, one in document.items()}
    if not isinstance(document, list):
        return document
    kinds = {type(one) for one in document}
    if document and kinds <= {int, float}:
        import numpy as np

        return np.array(document, dtype=np.int64 if kinds == {int} else np.float64)
    return [_compact(one) for one in document]


def _array_of(variable: Any) -> Any:
    import numpy as np

    held = getattr(variable, "value", variable)
    held = held() if callable(held) else held
    return held if ("torch", "Tensor") in lineage(type(held)) else np.asarray(held)


def _numpy_way(value: Any) -> Any:
    from mlobs.repro.model_numpy import numpy_way

    return numpy_way(value)


_KEYS_OF_NAMES = frozenset({"name", "keras_history", "input_layers", "output_layers", "inbound_nodes"})
_WITH_ARRAYS = frozenset({"jax", "jaxlib", "tensorflow"})
_LIBRARIES = {
    "xgboost": "xgboost", "lightgbm": "lightgbm", "catboost": "catboost", "keras": "keras",
    "tf_keras": "tf_keras", "torch": "torch", "onnx": "onnx", "sklearn": "scikit-learn",
}  # fmt: skip
_Ways = tuple[tuple[frozenset[tuple[str, str]], Callable[[Any], Any]], ...]
_WAYS: _Ways = tuple(
    (frozenset(names), way)
    for names, way in (
        # keras comes before torch: on that backend its models are modules of torch too
        ({("keras", "Layer"), ("tf_keras", "Layer")}, keras_layer),
        ({("xgboost", "Booster")}, xgboost_booster),
        ({("xgboost", "XGBModel")}, _of_estimator(xgboost_booster)),
        ({("lightgbm", "Booster")}, lightgbm_booster),
        ({("lightgbm", "LGBMModel")}, _of_estimator(lightgbm_booster)),
        ({("catboost", "CatBoost")}, catboost_model),
        ({("onnx", "ModelProto")}, onnx_model),
        ({("torch", "Tensor")}, model_torch.tensor),
        ({("torch", "Module")}, model_torch.module),
        ({("torch", "ExportedProgram")}, model_torch.exported),
        ({("torch", "Generator")}, model_torch.generator),
        ({("torch", "UntypedStorage"), ("torch", "TypedStorage")}, model_torch.storage),
        ({("pandas", "DataFrame")}, model_tables.frame),
        ({("pandas", "Series")}, model_tables.series),
        ({("pandas", "Index")}, model_tables.index),
        ({("pandas", "ExtensionArray")}, model_tables.array),
        ({("scipy", "spmatrix"), ("scipy", "sparray"), ("scipy", "_spbase")}, model_tables.sparse),
    )
)
