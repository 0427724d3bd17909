"""`mlobs config`: what is set, and where."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlobs.cli.options import JsonOption
from mlobs.cli.output import print_json, print_table, print_title
from mlobs.config import SETTINGS, Settings, load_settings, working_directory
from mlobs.delivery.registry import public_spec, resolve, spec_of
from mlobs.errors import UsageError
from mlobs.text import param_text

HIDDEN = "(not shown)"


def config(*, as_json: JsonOption = False) -> None:
    """Print every setting and its origin.

    \b
    mlobs config
    MLOBS_MODE=offline mlobs config
    mlobs config --json | jq -r .store.value

    Options of backends are printed unless they are secrets.
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    settings = load_settings(cwd=working_directory(), env=os.environ)
    options = {name: public_options(settings, name) for name in settings.backend_options}
    if as_json:
        print_json(_document(settings, options))
        return
    rows = [
        [name, _text(getattr(settings, name)), settings.origins[name], setting.about]
        for name, setting in SETTINGS.items()
    ]
    print_table(("setting", "value", "origin", "what it is"), rows)
    for name, values in options.items():
        print_title(f"backend {name} ({settings.origins.get(f'backends.{name}', 'file')})")
        print_table(("option", "value"), [[option, _text(value)] for option, value in values.items()])


def public_options(settings: Settings, name: str) -> dict[str, Any]:
    """The options of a backend that are no secrets; none of them if the backend cannot be made."""
    options = settings.backend_options[name]
    try:
        public = public_spec(spec_of(resolve([name], settings.backend_options, travels=False)[0])).params
    except UsageError:
        public = {}
    public = {"type": options.get("type"), **public}
    return {option: public.get(option, HIDDEN) for option in options}


def _document(settings: Settings, options: Mapping[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = {
        name: {
            "value": getattr(settings, name),
            "origin": settings.origins[name],
            "about": setting.about,
            "variable": setting.variable,
        }
        for name, setting in SETTINGS.items()
    }
    return document | {"backend_options": options}


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return str(value) if isinstance(value, Path) else param_text(value)
