"""A part of a run's snapshot in one line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mlobs.events import Snapshot
from mlobs.text import param_text, size


def summary(one: Snapshot) -> str:
    """Say what a part holds, for a person."""
    facts = one.facts
    match one.part.partition("/")[0]:
        case "entry":
            return " ".join(map(str, facts.get("command", ())))
        case "code":
            return ", ".join(_code(facts))
        case "environment":
            return f"{facts.get('python')}, {facts.get('packages')} packages, {str(facts.get('digest'))[:12]}"
        case "native":
            return ", ".join(map(_library, facts.get("libraries", ()))) or "no native library was loaded"
        case "seeds":
            return f"seed {facts.get('seed')}: {', '.join(facts.get('covered', ()))}"
        case "modules":
            count = facts.get("local")
            return f"{count} file{'s' * (count != 1)} of its own code" + _listed(
                "edited", facts.get("changed", ())
            )
        case "uncaptured":
            return "; ".join(f"{one['path']}: {one['reason']}" for one in facts.get("files", ()))
        case _:
            shown = {name: value for name, value in facts.items() if name not in ("file", "size_bytes")}
            return (
                f"{facts['file']}, {size(facts.get('size_bytes', 0))}"
                if "file" in facts
                else param_text(shown)
            )


def _code(facts: dict[str, Any]) -> Iterable[str]:
    if facts.get("commit"):
        yield f"commit {facts['commit'][:12]}" + (f" on {facts['branch']}" if facts.get("branch") else "")
    yield "with changes" if facts.get("is_dirty") else "without changes"
    yield f"tree {str(facts.get('tree'))[:12]}"
    yield f"pack of {size(facts.get('pack_bytes', 0))}"
    if facts.get("excluded"):
        yield f"{len(facts['excluded'])} not packed"
    yield from facts.get("warnings", ())


def _library(facts: dict[str, Any]) -> str:
    words = (facts.get("api"), facts.get("version"), facts.get("architecture"))
    return f"{' '.join(str(word) for word in words if word)} with {facts.get('threads')} threads"


def _listed(word: str, names: Iterable[str]) -> str:
    found = ", ".join(names)
    return f"; {word}: {found}" if found else ""
