"""The project file and the code say the same: what is installed is what the source names."""

import sys

from source_tree import ROOT

import mlobs
from mlobs import backends
from mlobs.delivery.registry import BUILT_IN, ENTRY_POINT_GROUP

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_entry_points_are_the_built_in_backends() -> None:
    assert PROJECT["entry-points"][ENTRY_POINT_GROUP] == BUILT_IN


def test_every_built_in_backend_is_public_and_names_an_extra_that_exists() -> None:
    classes = {getattr(backends, name) for name in backends.__all__}
    with_vendor = classes - {backends.Console}

    assert {f"{cls.__module__}:{cls.__qualname__}" for cls in classes} == set(BUILT_IN.values())
    assert {cls.extra for cls in with_vendor} <= set(PROJECT["optional-dependencies"])


def test_the_command_is_there() -> None:
    from mlobs.cli import main

    assert PROJECT["scripts"] == {"mlobs": "mlobs.cli:main"}
    assert callable(main)
    assert mlobs.__version__
