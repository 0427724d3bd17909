"""What becomes of every kind of thing at a backend: the lowering table, asked with one specimen of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mlobs.backend import Capabilities
from mlobs.delivery.lowering import lower
from mlobs.delivery.memory import Memory
from mlobs.events import (
    Artifact,
    Dataset,
    Event,
    Histogram,
    Log,
    Metrics,
    ModelFingerprint,
    Params,
    Rewind,
    Role,
    RunFinished,
    Snapshot,
    Tags,
    kind_of,
)

_JSON = b"{}"


class Cell(NamedTuple):
    """One kind at one backend. `outcome` is "native", "lowered" or "skipped"; `words` say it in full."""

    outcome: str
    words: str

    def __str__(self) -> str:
        return self.words


def grid(capabilities: Mapping[str, Capabilities]) -> dict[str, dict[str, Cell]]:
    """Return a cell for each kind and each backend's name."""
    return {
        kind: {name: _cell(event, one) for name, one in capabilities.items()}
        for kind, event in SPECIMENS.items()
    }


def _cell(event: Event, capabilities: Capabilities) -> Cell:
    lowering = lower(event, capabilities, Memory())
    match lowering.outcome:
        case "native":
            limit = capabilities.max_content_bytes.get(getattr(event, "role", ""))
            beyond = "" if limit is None else f" up to {limit:,} bytes, of more what names it"
            return Cell("native", f"native{beyond}")
        case "skipped":
            return Cell("skipped", f"skipped: {lowering.reason}")
        case "lowered":
            forms = dict.fromkeys(map(_form, lowering.events))
            return Cell(
                "lowered", f"lowered to {' and '.join(forms)}" if forms else f"lowered: {lowering.reason}"
            )


def _form(event: Event) -> str:
    if not isinstance(event, Artifact):
        return kind_of(event)
    is_json = event.media_type == "application/json" and event.role in ("text", "file")
    if is_json:
        return "JSON file" if event.role == "file" else "JSON text"
    raw = event.raw or {}
    described = {"table": "text with the first rows", "reference": "text with path, size and digest"}
    described["line"] = "rolling text files"
    return described.get(str(raw.get("form")), event.role)


def _artifact(role: Role, media_type: str) -> Artifact:
    return Artifact(1.0, "specimen", len(_JSON), role, media_type, data=_JSON)


SPECIMENS: Mapping[str, Event] = {
    "metrics": Metrics(1.0, 0, {"loss": 0.5}),
    "metrics that are NaN": Metrics(1.0, 0, {"loss": float("nan")}),
    "metrics that are infinite": Metrics(1.0, 0, {"loss": float("inf")}),
    "params": Params(1.0, {"lr": 0.1}),
    "tags": Tags(1.0, {"team": "x"}),
    "texts, dicts": _artifact("text", "text/plain"),
    "images": _artifact("image", "image/png"),
    "figures (matplotlib)": _artifact("figure", "image/png"),
    "figures (plotly's page)": _artifact("figure", "text/html"),
    "tables": _artifact("table", "application/json"),
    "matrices": _artifact("matrix", "application/json"),
    "confusion matrices": _artifact("confusion_matrix", "application/json"),
    "histograms": Histogram(1.0, 0, "weights", [1.0], [0.0, 1.0]),
    "logs": Log(1.0, "a line"),
    "files": _artifact("file", "application/octet-stream"),
    "models": _artifact("model", "application/octet-stream"),
    "datasets": Dataset(1.0, "train", None, "abc", "content"),
    "snapshots": Snapshot(1.0, "code", {}),
    "model fingerprints": ModelFingerprint(1.0, "model", "abc", "v1"),
    "going back in steps": Rewind(1.0, 0),
    "status": RunFinished(1.0, "FAILED", "an error"),
}
