"""A drop-in for torch.utils.tensorboard: change the import, and a script reaches every backend.

    from mlobs.integrations.tensorboard import SummaryWriter

Neither torch nor TensorBoard is imported; tensors are taken as they are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mlobs.errors import UsageError
from mlobs.integrations import tensorboard_images as images
from mlobs.integrations import tensorboard_numbers as numbers
from mlobs.integrations.tensorboard_rare import RareKinds
from mlobs.integrations.tensorboard_writing import Recording, step_of

__all__ = ["SummaryWriter"]

_PLAIN = 2  # letters of dataformats: height and width, no channels


class SummaryWriter(RareKinds):
    """Takes the calls of torch.utils.tensorboard.SummaryWriter, and records them in a run.

    It writes to the current run, or opens one of its own on the default tracker, called after
    `log_dir`; `close`, the context manager or the end of the program ends that one. Every call is
    on the disk when it returns, and none raises into training.

    Args:
        log_dir: names the run; it is made, because scripts keep checkpoints in it. The event files
            lie where the backend TensorBoard writes.
        comment: is added to the default `log_dir`.
        purge_step: go on with the last run of this folder, and take back what it has from this step on.
        max_queue: accepted; nothing is queued.
        flush_secs: accepted; nothing waits to be flushed.
        filename_suffix: has no effect, which is said once.

    Raises:
        UsageError: the settings are wrong.
        StoreError: the store cannot be written.
    """

    def add_scalar(
        self,
        tag: str,
        scalar_value: Any,
        global_step: Any = None,
        walltime: float | None = None,
        new_style: bool = False,
        double_precision: bool = False,
    ) -> None:
        """Record a metric; without a step, the calls for this tag are counted from 0."""
        if new_style or double_precision:
            text = (
                "new_style and double_precision have no effect: values are 64-bit floats, in TensorBoard 32"
            )
            self._remark("add_scalar", "form", text)
        if walltime is None:
            self._live.log_metric(self._name(tag), scalar_value, step_of(global_step))
            return
        with self._recording("add_scalar", tag, walltime) as recording:
            recording.log_metrics({self._name(tag): scalar_value}, step_of(global_step))

    def add_scalars(
        self,
        main_tag: str,
        tag_scalar_dict: Mapping[str, Any],
        global_step: Any = None,
        walltime: float | None = None,
    ) -> None:
        """Record several metrics of one step, called `MAIN_TAG/TAG`."""
        with self._recording("add_scalars", main_tag, walltime) as recording:
            values = {self._name(f"{main_tag}/{tag}"): value for tag, value in tag_scalar_dict.items()}
            if walltime is None:
                self._live.log_metrics(values, step_of(global_step))
            else:
                recording.log_metrics(values, step_of(global_step))

    def add_text(
        self, tag: str, text_string: str, global_step: Any = None, walltime: float | None = None
    ) -> None:
        """Record a text, which is Markdown to TensorBoard, as `TAG.md`."""
        with self._recording("add_text", tag, walltime) as recording:
            recording.log_text(self._path(f"{tag}.md"), text_string, step_of(global_step))

    def add_image(
        self,
        tag: str,
        img_tensor: Any,
        global_step: Any = None,
        walltime: float | None = None,
        dataformats: str = "CHW",
    ) -> None:
        """Record an image as `TAG.png`: uint8 or floats in [0, 1]; `dataformats` names the dimensions."""
        with self._recording("add_image", tag, walltime) as recording:
            self._image(
                recording, tag, images.rows_of("add_image", img_tensor, dataformats), step_of(global_step)
            )

    def add_images(
        self,
        tag: str,
        img_tensor: Any,
        global_step: Any = None,
        walltime: float | None = None,
        dataformats: str = "NCHW",
    ) -> None:
        """Record a batch of images as one picture, 8 beside each other."""
        with self._recording("add_images", tag, walltime) as recording:
            self._image(
                recording, tag, images.rows_of("add_images", img_tensor, dataformats), step_of(global_step)
            )

    def add_image_with_boxes(
        self,
        tag: str,
        img_tensor: Any,
        box_tensor: Any,
        global_step: Any = None,
        walltime: float | None = None,
        rescale: float = 1,
        dataformats: str = "CHW",
        labels: str | Sequence[str] | None = None,
    ) -> None:
        """Record an image with boxes drawn into it, each [x1, y1, x2, y2] in pixels."""
        with self._recording("add_image_with_boxes", tag, walltime) as recording:
            texts = [labels] if isinstance(labels, str) else labels
            if texts is not None and len(texts) != len(box_tensor):
                raise UsageError(f"add_image_with_boxes got {len(texts)} labels for {len(box_tensor)} boxes")
            rows = images.rows_of("add_image_with_boxes", img_tensor, dataformats)
            picture = images.with_boxes(rows, box_tensor, texts, rescale)
            recording.log_image(self._path(tag), picture, step_of(global_step))

    def add_figure(
        self,
        tag: str,
        figure: Any,
        global_step: Any = None,
        close: bool = True,
        walltime: float | None = None,
    ) -> None:
        """Record a figure of matplotlib, or a list of them of one size, as the image `TAG.png`."""
        with self._recording("add_figure", tag, walltime) as recording:
            figures = figure if isinstance(figure, list) else [figure]
            rendered = [images.pixels_of(one) for one in figures]
            self._image(
                recording,
                tag,
                images.grid_of(rendered) if len(rendered) > 1 else rendered[0],
                step_of(global_step),
            )
            if close:
                images.close(figures)

    def add_histogram(
        self,
        tag: str,
        values: Any,
        global_step: Any = None,
        bins: Any = "tensorflow",
        walltime: float | None = None,
        max_bins: int | None = None,
    ) -> None:
        """Record how values are distributed; `bins` as in numpy.histogram, or TensorFlow's."""
        with self._recording("add_histogram", tag, walltime) as recording:
            counts, edges, facts = numbers.histogram(tag, values, bins, max_bins)
            step = step_of(global_step)
            recording.log_histogram(
                self._name(tag), step=step, counts=counts, edges=edges, meta=facts or None
            )

    def add_histogram_raw(
        self,
        tag: str,
        min: float,
        max: float,
        num: int,
        sum: float,
        sum_squares: float,
        bucket_limits: Any,
        bucket_counts: Any,
        global_step: Any = None,
        walltime: float | None = None,
    ) -> None:
        """Record a histogram that is counted already; `bucket_limits` are the right edges of the bins."""
        with self._recording("add_histogram_raw", tag, walltime) as recording:
            facts = {"min": min, "max": max, "num": num, "sum": sum, "sum_squares": sum_squares}
            edges = numbers.edges_of(min, bucket_limits)
            step = step_of(global_step)
            recording.log_histogram(self._name(tag), step=step, counts=bucket_counts, edges=edges, meta=facts)

    def add_hparams(
        self,
        hparam_dict: dict[str, Any],
        metric_dict: dict[str, Any],
        hparam_domain_discrete: dict[str, list[Any]] | None = None,
        run_name: str | None = None,
        global_step: Any = None,
    ) -> None:
        """Record parameters and what they led to as a child run; its name is the time unless given.

        The values that a parameter may take stand in `hparam_domain_discrete.json`.
        """
        with self._recording("add_hparams", run_name or "", None):
            if not isinstance(hparam_dict, dict) or not isinstance(metric_dict, dict):
                raise UsageError("add_hparams takes two dicts: the parameters, and the metrics")
            params = {name: _item(value) for name, value in hparam_dict.items()}
            with self._live.child(run_name or str(time.time()), params=params) as child:
                child.log_metrics(metric_dict, step_of(global_step) or 0)
                if hparam_domain_discrete:
                    child.log_dict("hparam_domain_discrete", hparam_domain_discrete)

    def _image(self, recording: Recording, tag: str, rows: Any, step: Any) -> None:
        layout = "HW" if rows.ndim == _PLAIN else "HWC"
        recording.log_image(self._path(tag), rows, step, layout=layout)  # type: ignore[arg-type]


def _item(value: Any) -> Any:
    """The value of a tensor of size 1, anything else as it is."""
    is_single = hasattr(value, "item") and math.prod(getattr(value, "shape", (0,))) == 1
    return value.item() if is_single else value
