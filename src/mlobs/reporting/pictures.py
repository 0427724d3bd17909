"""Images and figures of runs by step, small enough for one page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mlobs.errors import MlobsError
from mlobs.read.artifact import StoredArtifact
from mlobs.read.record import RunRecord

ALL_BYTES = 2_500_000  # of all pictures before Base64; beside curves and library the file stays under 9 MB
MOST_STEPS = 8  # of one image of one run, evenly chosen, with the first and the last
MOST_SVG_BYTES = 200_000
SIDE_PX = 360
_SMALL_PX = 96  # an image up to this is shown pixel by pixel: as PNG, without loss


@dataclass(frozen=True)
class Picture:
    """An image as a `data:` address; its size is in pixels, 0 by 0 if it says so itself."""

    step: int | None
    source: str
    width: int
    height: int


@dataclass(frozen=True)
class Pictures:
    """Pictures by path and number of the run; `left_out` counts those without room, or not readable."""

    of: dict[str, dict[int, list[Picture]]]
    left_out: int


def pictures_of(records: Sequence[RunRecord]) -> Pictures:
    """Choose and shrink the images of all runs: the last step of each comes first, then the others."""
    series = list(_series(records))
    room, left_out = ALL_BYTES, sum(max(0, len(several) - MOST_STEPS) for *_, several in series)
    of: dict[str, dict[int, list[Picture]]] = {path: {} for _, path, _ in series}
    for rank in range(MOST_STEPS):
        for run, path, several in series:
            chosen = _evenly(several, MOST_STEPS)[::-1]
            if rank >= len(chosen):
                continue
            picture = _picture(chosen[rank]) if room > 0 else None
            if picture is None:
                left_out += 1
                continue
            room -= len(picture.source) * 3 // 4
            of[path].setdefault(run, []).insert(0, picture)
    return Pictures({path: of_runs for path, of_runs in of.items() if of_runs}, left_out)


def _series(records: Sequence[RunRecord]) -> Iterator[tuple[int, str, list[StoredArtifact]]]:
    """Each image of each run, its steps in order."""
    for run, record in enumerate(records):
        by_path: dict[str, list[StoredArtifact]] = {}
        for one in record.artifacts:
            is_heat_map = one.raw is not None and "of" in one.raw  # its matrix is shown in numbers
            if one.media_type.startswith("image/") and not is_heat_map:
                by_path.setdefault(one.path, []).append(one)
        for path, several in by_path.items():
            yield run, path, sorted(several, key=lambda one: -1 if one.step is None else one.step)


def _evenly(several: list[StoredArtifact], most: int) -> list[StoredArtifact]:
    if len(several) <= most:
        return several
    last = len(several) - 1
    return [several[round(place * last / (most - 1))] for place in range(most)]


def _picture(artifact: StoredArtifact) -> Picture | None:
    """The picture for the page; None where its content is gone, or is none that can be read."""
    from PIL import Image

    try:
        content = artifact.read_bytes()
        if artifact.media_type != "image/svg+xml":
            return _shrunk(artifact.step, content)
        address = _address(content, artifact.media_type)
        return Picture(artifact.step, address, 0, 0) if len(content) <= MOST_SVG_BYTES else None
    except (MlobsError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None  # of damaged content Pillow raises any of these; it is counted as left out


def _shrunk(step: int | None, content: bytes) -> Picture:
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        is_small = max(image.size) <= _SMALL_PX
        shown: Any = image.convert("RGBA" if image.mode in ("RGBA", "LA", "P") else "RGB")
    shown.thumbnail((SIDE_PX, SIDE_PX))
    made = io.BytesIO()
    shown.save(made, "PNG" if is_small else "WEBP", **({} if is_small else {"quality": 80}))
    return Picture(step, _address(made.getvalue(), "image/png" if is_small else "image/webp"), *shown.size)


def _address(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
