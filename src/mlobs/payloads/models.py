"""Models, saved by their own framework in the caller: saving changes some of them.

mlobs pickles no object unless it is scikit-learn's, whose own documentation names pickle as its format.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from mlobs.errors import UsageError
from mlobs.payloads.data import data

Serializer: TypeAlias = Callable[[Any, Path], object]

_LIGHTGBM = "lightgbm text"


class Framework(NamedTuple):
    """How models of a library are saved: `save(model, path)` writes the file called `file`.

    `module` is where the library defines them, or a part of it.
    """

    module: str
    file: str
    format: str
    save: Serializer


def save_model(name: str, model: Any, folder: Path, serializer: Serializer | None = None) -> dict[str, Any]:
    """Write a model's files into an empty folder, and say what they are.

    `serializer` is called with the model and a path without suffix, where it writes a file or a folder.
    Without one the model's framework saves it, or its own `save_pretrained`, `save_model` or `save`.

    Raises:
        UsageError: nobody knows how to save it, or saving fails.
    """
    format_, save = _way(name, model, serializer)
    try:
        save(model, folder)
    except Exception as error:
        raise UsageError(f"log_model({name!r}): saving it as {format_} fails: {error}") from error
    if not any(folder.iterdir()):
        raise UsageError(f"log_model({name!r}): saving it as {format_} wrote no file")
    cls = type(model)
    facts: dict[str, Any] = {
        "model": name,
        "format": format_,
        "class": f"{cls.__module__}.{cls.__qualname__}",
        **(_lightgbm_facts(model) if format_ == _LIGHTGBM else {}),
    }
    package = _package_of(model)
    version = getattr(sys.modules.get(package), "__version__", None)
    return {**facts, "library": f"{package} {version}"} if version else facts


def _way(name: str, model: Any, serializer: Serializer | None) -> tuple[str, Serializer]:
    """The name of the format, and what writes it into a folder."""
    if serializer is not None:
        return getattr(serializer, "__qualname__", "serializer"), partial(_into, serializer, "model")
    if callable(getattr(model, "save_pretrained", None)):  # transformers, peft, diffusers
        return "pretrained", partial(_call, "save_pretrained", "")
    framework = _framework_of(model)
    if framework is not None:
        return framework.format, partial(_into, framework.save, framework.file)
    for method in ("save_model", "save"):
        if callable(getattr(model, method, None)):
            return method, partial(_call, method, "model")
    raise UsageError(
        f"log_model({name!r}) got {type(model).__module__}.{type(model).__qualname__}, which has no `save` "
        "and is of no known framework - pass serializer=lambda model, path: ... that writes it to `path`"
    )


def _into(save: Serializer, file: str, model: Any, folder: Path) -> None:
    save(model, folder / file)


def _call(method: str, file: str, model: Any, folder: Path) -> None:
    getattr(model, method)(str(folder / file))


def _framework_of(model: Any) -> Framework | None:
    modules = [f"{base.__module__}." for base in type(model).__mro__]
    known = (one for one in FRAMEWORKS if any(module.startswith(f"{one.module}.") for module in modules))
    return next(known, None)


def _package_of(model: Any) -> str:
    framework = _framework_of(model)
    return (framework.module if framework else type(model).__module__).partition(".")[0]


def _save_torch(model: Any, path: Path) -> None:
    """Weights alone: `torch.load(path, weights_only=True)`."""
    state: Mapping[str, Any] = model.state_dict()
    sys.modules["torch"].save(state, str(path))


def _save_exported(model: Any, path: Path) -> None:
    sys.modules["torch"].export.save(model, str(path))


def _save_lightgbm(model: Any, path: Path) -> None:
    """The trees by which the model predicts: after early stopping, those up to its best iteration."""
    _booster_of(model).save_model(str(path))


def _booster_of(model: Any) -> Any:
    return (
        model.booster_ if hasattr(type(model), "booster_") else model
    )  # of an estimator without: it says so


def _lightgbm_facts(model: Any) -> dict[str, Any]:
    """What the file does not say: a classifier's own labels, and that later trees were left out."""
    facts: dict[str, Any] = {}
    if hasattr(model, "classes_"):
        facts["classes"] = data(model.classes_)
    booster = _booster_of(model)
    if 0 < booster.best_iteration < booster.current_iteration():
        facts["best_iteration"] = booster.best_iteration
    return facts


def _save_sklearn(model: Any, path: Path) -> None:
    import pickle  # nobody else here may

    with path.open("wb") as file:
        pickle.dump(model, file, protocol=5)


def _save_onnx(model: Any, path: Path) -> None:
    path.write_bytes(model.SerializeToString())


def _save(model: Any, path: Path) -> None:
    model.save(str(path))


def _save_model(model: Any, path: Path) -> None:
    model.save_model(str(path))


# Boosters come before scikit-learn: theirs are its estimators too, and their own formats outlive versions.
FRAMEWORKS = (
    Framework("xgboost", "model.ubj", "xgboost ubj", _save_model),
    Framework("lightgbm", "model.txt", _LIGHTGBM, _save_lightgbm),
    Framework("catboost", "model.cbm", "catboost cbm", _save_model),
    Framework("keras", "model.keras", "keras", _save),
    Framework("tf_keras", "model.keras", "keras", _save),
    Framework("torch.jit", "model.pt", "torchscript", _save),
    Framework("torch.export", "model.pt2", "torch export", _save_exported),
    Framework("torch", "model.pt", "torch state_dict", _save_torch),
    Framework("onnx", "model.onnx", "onnx", _save_onnx),
    Framework("sklearn", "model.pkl", "scikit-learn pickle", _save_sklearn),
)
