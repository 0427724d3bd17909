"""Folders that hold more than a program's own code: libraries, and places where everything lies."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
import tempfile
from functools import lru_cache
from pathlib import Path

_LIBRARIES = ("site-packages", "dist-packages")


def is_too_wide(folder: Path) -> bool:
    """Tell whether a folder is nobody's project: a root, a home, the folder of temporary files, a library."""
    folder = folder.resolve()
    home = Path(os.path.expanduser("~")).resolve()  # noqa: PTH111 - Path.home raises where there is none
    wide = {home, Path(tempfile.gettempdir()).resolve(), Path("/tmp").resolve(), *home.parents}  # noqa: S108 - only compared
    return folder == folder.parent or folder in wide or is_library(str(folder))


def is_library(path: str) -> bool:
    """Tell whether a file or folder belongs to Python or to an installed package."""
    return library_kind(path) is not None


def library_kind(path: str) -> str | None:
    """Return "site-packages" or "stdlib" for what is installed, None for what is somebody's own."""
    path = os.path.normcase(path)
    parts = path.replace("\\", "/").split("/")
    if any(name in parts for name in _LIBRARIES) or _is_below(path, _site_folders()):
        return "site-packages"
    return "stdlib" if _is_below(path, _standard_folders()) else None


def _is_below(path: str, folders: tuple[str, ...]) -> bool:
    return path.startswith(tuple(folder + os.sep for folder in folders)) or path in folders


@lru_cache(maxsize=1)
def _standard_folders() -> tuple[str, ...]:
    own = Path(os.__file__).parent
    return _spellings([sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), str(own)])


@lru_cache(maxsize=1)
def _site_folders() -> tuple[str, ...]:
    own = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    for ask in (getattr(site, "getsitepackages", None), getattr(site, "getusersitepackages", None)):
        found = ask() if ask is not None else []  # old virtualenvs replace `site` by one without them
        own += [found] if isinstance(found, str) else found
    return _spellings([folder for folder in own if folder != sys.prefix])


def _spellings(folders: list[str | None]) -> tuple[str, ...]:
    known = {os.path.normcase(spelt) for one in folders if one for spelt in (one, os.path.realpath(one))}
    return tuple(sorted(known))
