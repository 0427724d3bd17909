"""The calls that record more than numbers: texts, pictures, tables and files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any

from mlobs.errors import UsageError
from mlobs.events import Meta, Role
from mlobs.opened import Opened
from mlobs.payloads import figures, files, histograms, images, matrices, tables, texts
from mlobs.payloads.calls import Calls
from mlobs.payloads.images import Layout
from mlobs.payloads.payload import Payload, keep
from mlobs.values import meta_of, optional_step


class PayloadRecorder:
    """The calls of a run that hand over content.

    When one returns, the content is in the store, and the original is not needed again: it may
    change, move or vanish. What takes time and can wait, such as making a PNG, is done later by the sender.
    `name` is a path in the run; a suffix is added where it has none. `step` is any integer; the
    latest of a name and step counts. `meta` is a small mapping of your own. A run that is not recorded
    (mode "disabled", ranks other than 0) leaves the value as it is.
    """

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._troubles = opened.troubles
        self._calls = Calls()
        self._models: dict[str, tuple[int | None, set[str]]] = {}

    def log_text(self, name: str, text: str, step: int | None = None, *, meta: Meta | None = None) -> None:
        """Record a text as the artifact `name`; `.txt` is added if it has no suffix."""
        self._record("log_text", name, lambda: [texts.text(name, text)], step, meta)

    def log_dict(
        self, name: str, value: object, step: int | None = None, *, meta: Meta | None = None
    ) -> None:
        """Record a mapping or list as the JSON artifact `name`; `.json` is added if it has no suffix."""
        self._record("log_dict", name, lambda: [texts.document(name, value)], step, meta)

    def log_image(
        self,
        name: str,
        image: Any,
        step: int | None = None,
        *,
        layout: Layout | None = None,
        meta: Meta | None = None,
    ) -> None:
        """Record an image as `NAME.png`.

        `image` is an array of shape [H, W], [H, W, C] or [C, H, W] with 1, 3 or 4 channels (NumPy, torch,
        ...), a PIL image, or the path of a PNG, JPEG, GIF or WebP, which stays as it is. Samples are
        uint8, or floats in [0, 1], which are rounded to 8 bits. `layout` has to be given only where
        the shape does not tell.
        """
        self._record("log_image", name, lambda: [self._image(name, image, layout)], step, meta)

    def log_figure(
        self, name: str, figure: Any, step: int | None = None, *, meta: Meta | None = None
    ) -> None:
        """Record a figure of matplotlib as `NAME.png`, one of plotly also as the page `NAME.html`.

        It is rendered before this returns; it stays open.
        """
        self._record("log_figure", name, lambda: self._rendered(name, figure), step, meta)

    def log_table(self, name: str, table: Any, step: int | None = None, *, meta: Meta | None = None) -> None:
        """Record a table as `NAME.json`, or as Parquet if `name` ends in `.parquet`.

        `table` is a DataFrame, a list of dicts (rows), or a dict of columns. Take Parquet for more than
        some 100,000 cells: JSON costs 2 us a cell. An index that is not 0, 1, 2, ... becomes columns.
        """
        self._record("log_table", name, lambda: [tables.table(name, table)], step, meta)

    def log_matrix(
        self,
        name: str,
        matrix: Any,
        step: int | None = None,
        *,
        rows: Sequence[object] | None = None,
        columns: Sequence[object] | None = None,
        meta: Meta | None = None,
    ) -> None:
        """Record the numbers of an array of shape [R, C] as `NAME.json`, and a heat map as `NAME.png`.

        `rows` and `columns` are R and C labels.
        """
        self._record("log_matrix", name, lambda: matrices.matrix(name, matrix, rows, columns), step, meta)

    def log_confusion_matrix(
        self,
        name: str,
        matrix: Any,
        labels: Sequence[object] | None = None,
        step: int | None = None,
        *,
        meta: Meta | None = None,
    ) -> None:
        """Record a confusion matrix as `NAME.json`, and a picture of it as `NAME.png`.

        `matrix[i][j]` counts what is `labels[i]` and was predicted as `labels[j]`, as in scikit-learn.
        """
        call = "log_confusion_matrix"
        self._record(call, name, lambda: matrices.confusion_matrix(name, matrix, labels), step, meta)

    def log_histogram(
        self,
        name: str,
        values: Any = None,
        step: int | None = None,
        *,
        bins: int = 64,
        counts: Any = None,
        edges: Any = None,
        meta: Meta | None = None,
    ) -> None:
        """Record how values are distributed: `values` of any shape, or `counts` and one more `edges`.

        Values are counted before this returns, in `bins` bins of one width (at most 10,000). NaN and
        infinities are in no bin; `meta["not_finite"]` says how many there were.
        """
        if self._opened.folder is None:
            return
        with self._troubles.noted("log_histogram", name):
            event = histograms.histogram(
                name, values, bins, counts, edges, optional_step(step), meta_of(meta)
            )
            self._opened.append(event)

    def log_artifact(
        self,
        local_path: str | PurePath,
        artifact_path: str | None = None,
        *,
        step: int | None = None,
        meta: Meta | None = None,
    ) -> None:
        """Record a file as it is now, in the run's folder `artifact_path`; a folder with all its files."""
        if self._opened.folder is None:
            return
        with self._troubles.noted("log_artifact", str(local_path)):
            source = files.existing(local_path, "log_artifact")
            target = f"{artifact_path}/{source.name}" if artifact_path else source.name
            self._keep_files(source, target, optional_step(step), meta_of(meta))

    def log_artifacts(
        self, local_dir: str | PurePath, artifact_path: str | None = None, *, meta: Meta | None = None
    ) -> None:
        """Record every file below a folder as it is now, in the run's folder `artifact_path`.

        A pattern such as `"out/**/*.png"` takes the files that match, under their paths below the
        folder before the first wildcard. The store itself is left out: it would be copied into itself.
        """
        if self._opened.folder is None:
            return
        with self._troubles.noted("log_artifacts", str(local_dir)):
            if files.is_pattern(local_dir):
                self._keep_matches(str(local_dir), artifact_path, meta_of(meta))
                return
            source = files.existing(local_dir, "log_artifacts")
            if not source.is_dir():
                raise UsageError(f"log_artifacts: {source} is a file; use log_artifact")
            self._keep_files(source, artifact_path, None, meta_of(meta))

    def _record(
        self, call: str, name: str, make: Callable[[], Iterable[Payload]], step: object, meta: object
    ) -> None:
        """Keep what `make` makes of the caller's value; a run that is not recorded does not even make it."""
        if self._opened.folder is None:
            return
        with self._troubles.noted(call, name):
            number, facts = optional_step(step), meta_of(meta)
            for payload in make():
                self._opened.append(keep(self._opened.writer, payload, number, facts))
                other = self._calls.other(payload.path, number, call)
                if other is not None:
                    what = (
                        f"takes the place of what {other} recorded as {payload.path!r} - choose other names"
                    )
                    self._troubles.remark(call, name, what)

    def _tell_left(self, name: str, step: int | None, now: set[str]) -> None:
        """Say which files of an earlier model of this name and step the new one does not replace."""
        before_step, before = self._models.get(name, (None, set()))
        self._models[name] = (step, now)
        left = sorted(before - now) if step == before_step else []
        if left:
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            what = f"replaces an earlier model whose file {left[0]}{more} stays - choose another name or step"
            self._troubles.remark("log_model", name, what)

    def _image(self, name: str, image: Any, layout: Layout | None) -> Payload:
        payload = images.image(name, image, layout)
        outside = (payload.raw or {}).get("outside", 0)
        if outside:
            what = f"has {outside:,} samples outside of [0, 1] or NaN: they are cut to it"
            self._troubles.remark("log_image", name, what)
        return payload

    def _rendered(self, name: str, figure: Any) -> list[Payload]:
        rendered = list(figures.figure(name, figure))
        if all(one.media_type != "image/png" for one in rendered):
            what = "has no picture beside its HTML - type: pip install kaleido"
            self._troubles.remark("log_figure", name, what)
        return rendered

    def _keep_matches(self, pattern: str, artifact_path: str | None, meta: Meta | None) -> None:
        folder = self._opened.folder
        found = list(files.matches(pattern, artifact_path))
        if folder is not None and (kept := list(files.outside(found, folder.store))) != found:
            what = f"leaves out {len(found) - len(kept):,} files of {folder.store}: it is the store"
            self._troubles.remark("log_artifacts", pattern, what)
            found = kept
        self._keep_each(found, None, meta)

    def _keep_files(self, source: Path, target: str | None, step: int | None, meta: Meta | None) -> None:
        folder = self._opened.folder
        store = files.store_below(source, folder.store) if folder is not None else None
        if store is not None:
            self._troubles.remark("log_artifacts", str(source), f"leaves out {store}: it is the store")
        self._keep_each(list(files.files_of(source, target, store)), step, meta)

    def _keep_each(
        self, found: Sequence[tuple[Path, str]], step: int | None, meta: Meta | None, role: Role = "file"
    ) -> None:
        """Keep files under the paths beside them; one that cannot be kept does not cost its neighbours."""
        with files.copying(found) as copied:
            for path, name in found:
                with self._troubles.noted("log_artifact", str(path)):
                    event = files.artifact_of_file(
                        self._opened.writer,
                        path,
                        name,
                        step,
                        meta,
                        role=role,
                        copied=copied,
                        is_ours=role == "model",
                    )
                    self._opened.append(event)
