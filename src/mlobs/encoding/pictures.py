"""Pictures as PNG: samples as they are, matrices as heat maps, histograms as bars. Drawn by Pillow."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

_LONGEST_PX = 1000  # of the longer side of a heat map's grid
_CELL_PX = (1, 48)  # at least and at most
_READABLE_CELL_PX = 36  # from here on a cell shows its number
_BARS_PX = (480, 300)
_MARGIN_PX, _LINE_PX, _FONT_PX = 8, 16, 12
_INK, _PAPER, _BAR = (40, 40, 40), (255, 255, 255), (49, 104, 142)
_DARK = 140  # grey value below which a number is written in white
# Six points of matplotlib's "viridis" (CC0), even to the eye and to the colour-blind.
_RAMP = ((68, 1, 84), (65, 68, 135), (42, 120, 142), (34, 168, 132), (122, 209, 81), (253, 231, 37))
_MISSING = (190, 190, 190)


def png_of_samples(samples: bytes, shape: Sequence[int]) -> bytes:
    """The PNG of 8-bit samples of shape [H, W] or [H, W, C], C being 3 (RGB) or 4 (RGBA)."""
    from PIL import Image

    height, width, *channels = shape
    mode = {(): "L", (3,): "RGB", (4,): "RGBA"}[tuple(channels)]
    if len(samples) != math.prod(shape):
        raise ValueError(f"{len(samples)} samples, expected {math.prod(shape)}")
    return _png(Image.frombuffer(mode, (width, height), samples, "raw", mode, 0, 1))


def heat_map(
    rows: Sequence[Sequence[float]],
    row_labels: Sequence[str] | None,
    column_labels: Sequence[str] | None,
    axes: tuple[str, str] | None = None,
) -> bytes:
    """The PNG of a matrix, dark for its least value and bright for its greatest; NaN is grey.

    Labels and numbers are written where there is room. `axes` are the words for rows and columns.
    """
    from PIL import Image, ImageDraw

    cell = min(max(_LONGEST_PX // max(len(rows), len(rows[0])), _CELL_PX[0]), _CELL_PX[1])
    font = _font()
    names = [_short(one) for one in row_labels or ()] if cell >= _LINE_PX else []
    heads = [_short(one) for one in column_labels or ()] if cell >= _LINE_PX else []
    left = _MARGIN_PX + int(max((font.getlength(one) for one in names), default=0)) + _MARGIN_PX
    longest = int(max((font.getlength(one) for one in heads), default=0))
    is_upright = longest > cell  # heads that are no wider than their column are written as they are read
    top = _MARGIN_PX + (longest if is_upright else _LINE_PX * bool(heads)) + _MARGIN_PX
    top += _LINE_PX if axes else 0
    title = f"{axes[0]} down, {axes[1]} across" if axes else ""
    width = max(left + cell * len(rows[0]), _MARGIN_PX + int(font.getlength(title))) + _MARGIN_PX
    picture = Image.new("RGB", (width, top + cell * len(rows) + _MARGIN_PX), _PAPER)
    picture.paste(
        _grid(rows).resize((cell * len(rows[0]), cell * len(rows)), Image.Resampling.NEAREST), (left, top)
    )
    draw = ImageDraw.Draw(picture)
    draw.text((_MARGIN_PX, _MARGIN_PX), title, _INK, font)
    for number, name in enumerate(names):
        middle = top + cell * number + cell // 2
        draw.text((left - _MARGIN_PX // 2, middle), name, _INK, font, anchor="rm")
    for number, head in enumerate(heads):
        foot = (left + cell * number + cell // 2, top - _MARGIN_PX // 2)
        if is_upright:
            _write_upwards(picture, head, foot)
        else:
            draw.text(foot, head, _INK, font, anchor="md")
    if cell >= _READABLE_CELL_PX:
        _write_numbers(picture, rows, (left, top), cell)
    return _png(picture)


def bars(counts: Sequence[float], edges: Sequence[float]) -> bytes:
    """The PNG of a histogram: `counts[i]` between `edges[i]` and `edges[i + 1]`."""
    from PIL import Image, ImageDraw

    width, height = _BARS_PX
    picture = Image.new("RGB", _BARS_PX, _PAPER)
    draw, font = ImageDraw.Draw(picture), _font()
    base, most = height - _MARGIN_PX - _LINE_PX, max(counts, default=0.0) or 1.0
    span = (edges[-1] / 2 - edges[0] / 2) or 1.0  # halves: the difference may be infinite
    across, up = width - 2 * _MARGIN_PX, base - _MARGIN_PX - _LINE_PX

    def x(edge: float) -> float:
        return _MARGIN_PX + across * ((edge / 2 - edges[0] / 2) / span)

    for count, begin, end in zip(counts, edges, edges[1:], strict=False):
        top = base - up * count / most
        if count:
            draw.rectangle((x(begin), min(top, base - 1), max(x(end) - 1, x(begin)), base), fill=_BAR)
    draw.line((_MARGIN_PX, base, width - _MARGIN_PX, base), fill=_INK)
    draw.text((_MARGIN_PX, base + 2), f"{edges[0]:.6g}", _INK, font)
    draw.text((width - _MARGIN_PX, base + 2), f"{edges[-1]:.6g}", _INK, font, anchor="ra")
    draw.text(
        (_MARGIN_PX, _MARGIN_PX // 2), f"{sum(counts):,.6g} values, at most {most:,.6g} in a bin", _INK, font
    )
    return _png(picture)


def _grid(rows: Sequence[Sequence[float]]) -> Any:
    """One pixel a cell."""
    from PIL import Image

    finite = [value for row in rows for value in row if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    picture = Image.new("RGB", (len(rows[0]), len(rows)))
    picture.putdata([_colour(value, low, high) for row in rows for value in row])
    return picture


def _colour(value: float, low: float, high: float) -> tuple[int, int, int]:
    if math.isnan(value):
        return _MISSING
    span = high / 2 - low / 2  # halves: the difference of two large numbers may be infinite
    share = 0.5 if span == 0 else min(max((value / 2 - low / 2) / span, 0.0), 1.0)
    at, part = divmod(share * (len(_RAMP) - 1), 1)
    one, other = _RAMP[int(at)], _RAMP[min(int(at) + 1, len(_RAMP) - 1)]
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _write_numbers(picture: Any, rows: Sequence[Sequence[float]], corner: tuple[int, int], cell: int) -> None:
    from PIL import ImageDraw

    draw, font = ImageDraw.Draw(picture), _font()
    for down, row in enumerate(rows):
        for across, value in enumerate(row):
            middle = (corner[0] + cell * across + cell // 2, corner[1] + cell * down + cell // 2)
            red, green, blue = picture.getpixel((middle[0], corner[1] + cell * down))
            is_dark = (red * 299 + green * 587 + blue * 114) // 1000 < _DARK  # luma, ITU-R BT.601
            draw.text(
                middle,
                _number(value),
                _PAPER if is_dark else _INK,
                font,
                anchor="mm",
            )


def _number(value: float) -> str:
    is_short_count = abs(value) < 100_000 and value % 1 == 0  # noqa: PLR2004 - five digits fit into a cell
    return f"{value:.0f}" if is_short_count else f"{value:.3g}"


def _write_upwards(picture: Any, text: str, foot: tuple[int, int]) -> None:
    """Write a text that reads from below, ending above the point `foot`."""
    from PIL import Image, ImageDraw

    font = _font()
    strip = Image.new("RGB", (max(int(font.getlength(text)), 1), _LINE_PX), _PAPER)
    ImageDraw.Draw(strip).text((0, 0), text, _INK, font)
    turned = strip.rotate(90, expand=True)
    picture.paste(turned, (foot[0] - turned.width // 2, foot[1] - turned.height))


def _font() -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(_FONT_PX)


def _short(text: str) -> str:
    return text if len(text) <= 20 else f"{text[:19]}…"  # noqa: PLR2004 - characters of a label


def _png(picture: Any) -> bytes:
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()
