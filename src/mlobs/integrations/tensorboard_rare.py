"""The methods of SummaryWriter for which mlobs has no kind: recorded as a file or table, and said once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlobs.errors import UsageError
from mlobs.integrations import tensorboard_files as files
from mlobs.integrations import tensorboard_images as images
from mlobs.integrations import tensorboard_numbers as numbers
from mlobs.integrations.tensorboard_writing import Recording, Writing, step_of
from mlobs.payloads.payload import Payload
from mlobs.values import plain

_BINARY = "application/octet-stream"


class RareKinds(Writing):
    """Signatures are those of torch.utils.tensorboard."""

    def add_audio(
        self,
        tag: str,
        snd_tensor: Any,
        global_step: Any = None,
        sample_rate: int = 44100,
        walltime: float | None = None,
    ) -> None:
        """Record sound, samples in [-1, 1] of shape [1, L], as the file `TAG.wav`."""
        with self._recording("add_audio", tag, walltime) as recording:
            content = files.wav(snd_tensor, sample_rate)
            self._keep(recording, "add_audio", f"{tag}.wav", "audio/wav", content, global_step)

    def add_video(
        self,
        tag: str,
        vid_tensor: Any,
        global_step: Any = None,
        fps: float = 4,
        walltime: float | None = None,
    ) -> None:
        """Record a video [N, T, C, H, W], uint8 or floats in [0, 1], as the moving image `TAG.gif`."""
        with self._recording("add_video", tag, walltime) as recording:
            payload = Payload(
                self._path(f"{tag}.gif"), "image", "image/gif", images.gif(vid_tensor, float(fps))
            )
            recording.keep(payload, step_of(global_step))

    def add_pr_curve(
        self,
        tag: str,
        labels: Any,
        predictions: Any,
        global_step: Any = None,
        num_thresholds: int = 127,
        weights: Any = None,
        walltime: float | None = None,
    ) -> None:
        """Record precision and recall for up to 127 thresholds as the table `TAG.json`."""
        with self._recording("add_pr_curve", tag, walltime) as recording:
            table = numbers.pr_curve(labels, predictions, num_thresholds, weights)
            self._table(recording, "add_pr_curve", tag, table, global_step)

    def add_pr_curve_raw(
        self,
        tag: str,
        true_positive_counts: Any,
        false_positive_counts: Any,
        true_negative_counts: Any,
        false_negative_counts: Any,
        precision: Any,
        recall: Any,
        global_step: Any = None,
        num_thresholds: int = 127,
        weights: Any = None,
        walltime: float | None = None,
    ) -> None:
        """Record a precision-recall curve that is counted already as the table `TAG.json`."""
        del num_thresholds, weights  # in the counts already; torch's writer does not use them either
        with self._recording("add_pr_curve_raw", tag, walltime) as recording:
            right = (true_positive_counts, false_positive_counts)
            columns = (*right, true_negative_counts, false_negative_counts, precision, recall)
            table = numbers.curve_table(columns)
            self._table(recording, "add_pr_curve_raw", tag, table, global_step)

    def add_embedding(
        self,
        mat: Any,
        metadata: Sequence[Any] | None = None,
        label_img: Any = None,
        global_step: Any = None,
        tag: str = "default",
        metadata_header: Sequence[str] | None = None,
    ) -> None:
        """Record vectors [N, D] and their labels as `TAG/tensors.tsv` and `TAG/metadata.tsv`.

        The Embedding Projector loads both. `label_img` [N, C, H, W] becomes the picture `TAG/sprite.png`.
        """
        with self._recording("add_embedding", tag) as recording:
            vectors = files.vectors_tsv(mat)
            number = vectors.count(b"\n")
            for what, given in (("metadata", metadata), ("label_img", label_img)):
                if given is not None and len(given) != number:
                    raise UsageError(f"add_embedding got {len(given)} {what} for {number} vectors")
            tsv, call = "text/tab-separated-values", "add_embedding"
            self._keep(recording, call, f"{tag}/tensors.tsv", tsv, vectors, global_step)
            if metadata is not None:
                content = files.metadata_tsv(metadata, metadata_header)
                self._keep(recording, call, f"{tag}/metadata.tsv", tsv, content, global_step)
            if label_img is not None:
                sprite = images.rows_of(call, label_img, "NCHW")
                recording.log_image(self._path(f"{tag}/sprite"), sprite, step_of(global_step), layout="HWC")

    def add_mesh(
        self,
        tag: str,
        vertices: Any,
        colors: Any = None,
        faces: Any = None,
        config_dict: Mapping[str, Any] | None = None,
        global_step: Any = None,
        walltime: float | None = None,
    ) -> None:
        """Record a mesh or point cloud as the arrays of `TAG.npz`, its configuration as `TAG.json`."""
        with self._recording("add_mesh", tag, walltime) as recording:
            content = files.npz({"vertices": vertices, "colors": colors, "faces": faces})
            self._keep(recording, "add_mesh", f"{tag}.npz", _BINARY, content, global_step)
            if config_dict is not None:
                recording.log_dict(self._path(f"{tag}.json"), config_dict, step_of(global_step))

    def add_tensor(
        self, tag: str, tensor: Any, global_step: Any = None, walltime: float | None = None
    ) -> None:
        """Record an array as the file `TAG.npy`."""
        with self._recording("add_tensor", tag, walltime) as recording:
            self._keep(recording, "add_tensor", f"{tag}.npy", _BINARY, files.npy(tensor), global_step)

    def add_graph(
        self, model: Any, input_to_model: Any = None, verbose: bool = False, use_strict_trace: bool = True
    ) -> None:
        """Record what the model prints as, its layers, as the text `graph.txt`; it is not traced."""
        del input_to_model, use_strict_trace  # of a trace; the remark says that there is none
        with self._recording("add_graph", "graph") as recording:
            text = str(model)
            self._remark("add_graph", "graph", "is recorded as text: the model is not traced")
            recording.log_text(self._path("graph.txt"), text)
            if verbose:
                print(text)  # noqa: T201 - the caller asks for it

    def add_onnx_graph(self, prototxt: Any) -> None:
        """Record the file of an ONNX model."""
        with self._recording("add_onnx_graph", str(prototxt)) as recording:
            recording.log_artifact(prototxt, self._prefix.strip("/") or None)

    def add_custom_scalars(self, layout: Mapping[str, Any]) -> None:
        """Record which metrics belong into one chart as `custom_scalars.json`; no backend draws it."""
        with self._recording("add_custom_scalars", "layout") as recording:
            text = "is recorded as JSON: no backend draws charts of a layout"
            self._remark("add_custom_scalars", "layout", text)
            recording.log_dict(self._path("custom_scalars.json"), plain(layout))

    def add_custom_scalars_multilinechart(
        self, tags: Sequence[str], category: str = "default", title: str = "untitled"
    ) -> None:
        """Record a layout of one chart, see `add_custom_scalars`."""
        self.add_custom_scalars({category: {title: ["Multiline", list(tags)]}})

    def add_custom_scalars_marginchart(
        self, tags: Sequence[str], category: str = "default", title: str = "untitled"
    ) -> None:
        """Record a layout of one chart: a value with its lower and upper bound."""
        self.add_custom_scalars({category: {title: ["Margin", list(tags)]}})

    def _keep(
        self, recording: Recording, call: str, name: str, media_type: str, content: bytes, step: Any
    ) -> None:
        """Record a file of a kind that no backend draws."""
        self._remark(call, "kind", "is recorded as a file: no backend draws it")
        recording.keep(Payload(self._path(name), "file", media_type, content), step_of(step))

    def _table(self, recording: Recording, call: str, tag: str, table: Mapping[str, Any], step: Any) -> None:
        self._remark(call, "kind", "is recorded as a table: no backend draws the curve")
        recording.log_table(self._path(tag), table, step_of(step))
