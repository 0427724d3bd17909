"""Figures of matplotlib and plotly: rendered in the caller, because rendering changes a figure."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from mlobs.errors import UsageError
from mlobs.payloads.payload import Payload, clean_path

_SUFFIXES = (".png", ".html")


def figure(name: str, value: Any) -> Iterator[Payload]:
    """A picture under NAME.png of a matplotlib figure or axes; of a plotly figure also NAME.html.

    The HTML loads plotly.js from its public address, so it is small and needs a network to be seen.
    Plotly draws the picture with `kaleido`; without that there is the HTML alone.

    Raises:
        UsageError: it is no figure.
    """
    path = clean_path(name)
    stem = path[: path.rindex(".")] if path.lower().endswith(_SUFFIXES) else path
    if callable(getattr(value, "to_html", None)) and callable(getattr(value, "to_image", None)):
        picture = _picture_of_plotly(value)
        if picture is not None:
            yield Payload(f"{stem}.png", "figure", "image/png", picture)
        page = value.to_html(include_plotlyjs="cdn", full_html=True)
        yield Payload(f"{stem}.html", "figure", "text/html", page.encode())
        return
    drawn = value if callable(getattr(value, "savefig", None)) else getattr(value, "figure", None)
    if not callable(getattr(drawn, "savefig", None)):
        raise UsageError(
            f"log_figure({name!r}) got {type(value).__name__}; expected a figure of matplotlib or plotly - "
            "log_image takes arrays and PIL images"
        )
    content = io.BytesIO()
    drawn.savefig(content, format="png", bbox_inches="tight")  # type: ignore[union-attr]
    yield Payload(f"{stem}.png", "figure", "image/png", content.getvalue())


def _picture_of_plotly(value: Any) -> bytes | None:
    """The figure as PNG; None where plotly has no `kaleido`, or kaleido has no browser."""
    try:
        return bytes(value.to_image(format="png"))
    except (ValueError, RuntimeError, ImportError):  # plotly's and kaleido's words for a missing part
        return None
