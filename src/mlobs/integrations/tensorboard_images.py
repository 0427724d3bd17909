"""Pictures as SummaryWriter takes them: any order of the dimensions, batches, boxes, figures."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import Any

from mlobs.errors import UsageError
from mlobs.payloads.arrays import as_array

COLUMNS = 8  # of a grid: torch.utils.tensorboard's own number
_BATCH = 4  # dimensions
_MAX_SAMPLE = 255


def rows_of(call: str, image: Any, dataformats: str) -> Any:
    """The image as an array [H, W, C] or [H, W]; a batch becomes one picture, 8 beside each other.

    `dataformats` names each dimension: N, C, H and W, in any order.

    Raises:
        UsageError: it names others than the array has.
    """
    array, letters = as_array(call, image), dataformats.upper()
    order = {2: "HW", 3: "HWC", _BATCH: "NHWC"}.get(len(letters), "")
    if sorted(letters) != sorted(order) or array.ndim != len(letters):
        raise UsageError(f"{call} got shape {array.shape} as {dataformats!r}; expected e.g. 'CHW' or 'NCHW'")
    array = array.transpose([letters.index(letter) for letter in order])
    return grid(array) if len(letters) == _BATCH else array


def grid(batch: Any) -> Any:
    """Put the images of a batch [N, H, W, C] into one, row by row; what is left over is black."""
    import numpy as np

    number, height, width, channels = batch.shape
    columns = max(min(number, COLUMNS), 1)
    lines = -(-number // columns)
    canvas = np.zeros((lines * height, columns * width, channels), batch.dtype)
    for index, image in enumerate(batch):
        top, left = index // columns * height, index % columns * width
        canvas[top : top + height, left : left + width] = image
    return canvas


def grid_of(images: Sequence[Any]) -> Any:
    """Put images [H, W, C] of one shape into one.

    Raises:
        UsageError: their shapes differ.
    """
    import numpy as np

    shapes = {one.shape for one in images}
    if len(shapes) != 1:
        raise UsageError(f"add_figure got figures of {len(shapes)} sizes; expected one: {sorted(shapes)}")
    return grid(np.stack(images))


def with_boxes(rows: Any, boxes: Any, labels: Sequence[str] | None, rescale: float) -> Any:
    """Draw red boxes, each [x1, y1, x2, y2] in pixels, with their labels; return a PIL image."""
    from PIL import Image, ImageDraw

    picture = Image.fromarray(_bytes_of(rows).squeeze()).convert("RGB")
    draw = ImageDraw.Draw(picture)
    for index, box in enumerate(as_array("add_image_with_boxes", boxes).reshape(-1, 4).tolist()):
        left, top, right, bottom = box
        draw.line([(left, top), (left, bottom), (right, bottom), (right, top), (left, top)], "red", 2)
        if labels is not None:
            place = (left + 1, bottom)
            draw.rectangle(draw.textbbox(place, str(labels[index]), anchor="lb"), "red")
            draw.text(place, str(labels[index]), "black", anchor="lb")
    size = (int(picture.width * rescale), int(picture.height * rescale))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)


def pixels_of(figure: Any) -> Any:
    """Render a figure of matplotlib as uint8 [H, W, 3], in its own size and resolution."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def close(figures: Sequence[Any]) -> None:
    """Close figures of pyplot, if it is in use."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    for figure in figures if pyplot is not None else ():
        pyplot.close(figure)  # type: ignore[union-attr]


def gif(video: Any, fps: float) -> bytes:
    """Encode a video [N, T, C, H, W] as an animated GIF; the N clips play beside each other."""
    from PIL import Image

    array = as_array("add_video", video)
    if array.ndim != 5:  # noqa: PLR2004 - N, T, C, H, W
        raise UsageError(f"add_video got shape {array.shape}; expected [N, T, C, H, W]")
    frames = [grid(_bytes_of(frame)) for frame in array.transpose(1, 0, 3, 4, 2)]
    pictures = [Image.fromarray(one.squeeze()).convert("RGB") for one in frames]
    content = io.BytesIO()
    duration_ms = round(1000 / fps)
    pictures[0].save(content, "GIF", save_all=True, append_images=pictures[1:], duration=duration_ms, loop=0)
    return content.getvalue()


def _bytes_of(rows: Any) -> Any:
    import numpy as np

    if rows.dtype == np.uint8:
        return rows
    return (rows.astype(np.float32) * _MAX_SAMPLE).clip(0, _MAX_SAMPLE).astype(np.uint8)
