"""An artifact of a run, found by the name that it was logged under."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from mlobs.errors import UsageError
from mlobs.names import nearest_names
from mlobs.read.artifact import StoredArtifact

ROLES: dict[str, tuple[str, ...]] = {
    "artifact": (),  # of any role
    "table": ("table",),
    "matrix": ("matrix", "confusion_matrix"),
    "image": ("image", "figure"),
    "figure": ("figure",),
}
_MOST = 10  # names in an error


def find_artifact(
    artifacts: Sequence[StoredArtifact], what: str, name: str, step: int | None, run_id: str
) -> StoredArtifact:
    """The artifact of this path, or of this path without its suffix; without a step the latest of them.

    `what` is a key of `ROLES`.

    Raises:
        UsageError: there is none; the message names those that there are.
    """
    fitting = [one for one in artifacts if _fits(one, what)]
    found = [one for one in fitting if one.path == name] or [one for one in fitting if _stem(one) == name]
    chosen = [one for one in found if step is None or one.step == step]
    if chosen:
        return chosen[-1]
    if found:
        steps = sorted({one.step for one in found if one.step is not None})
        there = f"there is {', '.join(map(str, steps[:_MOST]))}" if steps else "it was logged without a step"
        raise UsageError(f"run {run_id} has no {what} {name!r} of step {step}; {there}")
    names = list(dict.fromkeys(one.path if what == "artifact" else _stem(one) for one in fitting))
    raise UsageError(f"run {run_id} has no {what} {name!r}; {nearest_names(name, names, _MOST)}")


def _fits(one: StoredArtifact, what: str) -> bool:
    roles = ROLES[what]
    if what == "image" and not one.media_type.startswith("image/"):
        return False  # a figure of plotly
    return not roles or one.role in roles


def _stem(one: StoredArtifact) -> str:
    return str(PurePosixPath(one.path).with_suffix(""))
