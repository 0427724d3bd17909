"""The calls that record what a run is made of, and what it makes: datasets and models."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from mlobs.errors import UsageError
from mlobs.events import Dataset, Meta, ModelFingerprint, Tags
from mlobs.journal import access
from mlobs.journal.store import RunFolder, Store
from mlobs.payload_recorder import PayloadRecorder
from mlobs.payloads import files, models
from mlobs.payloads.models import Serializer
from mlobs.payloads.payload import clean_path
from mlobs.provenance import record_seeding
from mlobs.secrets import masked
from mlobs.values import meta_of, name_of, optional_step, text_of

if TYPE_CHECKING:
    from mlobs.repro.fingerprint import Fingerprint

FingerprintStrength: TypeAlias = Literal["auto", "content", "rows", "pinned", "stat"]

INPUTS_S = 0.1  # for the fingerprints of a tracked function's arguments, in all
_MOST_NAMED = 3  # changes in a warning
_MOST_INLINE = 2000  # digests of columns or files in the journal; the registry of datasets has all of them


class ProvenanceRecorder(PayloadRecorder):
    """The calls of a run by which its results can be traced back and compared."""

    def log_dataset(
        self,
        name: str,
        data: Any,
        version: str | None = None,
        context: str = "train",
        *,
        fingerprint: FingerprintStrength = "auto",
        step: int | None = None,
        meta: Meta | None = None,
    ) -> None:
        """Record which data the run uses: its name, its version, and the fingerprint of what it holds.

        `data` is a DataFrame of pandas or polars, an Arrow table, an array or tensor, several arrays in a
        tuple or dict, the path of a file or folder, or a URI. The data itself is not copied. The
        fingerprint is taken before this returns: about 0.3 s for 1 GB of numbers or files; unchanged
        files cost nothing. The same name and `version` with other data is warned about, and the columns
        or files that changed are named.

        Args:
            name: what people call the dataset.
            data: what is used.
            version: what people call this state of it; left out, it is named after its content.
            context: what it is used for: "train", "validation", "test".
            fingerprint: "content" reads all of it, "rows" does not mind their order, "pinned" trusts the
                version of the storage, "stat" takes size and time of change. "auto" takes the strongest
                that can be had.
            step: the step from which on it is used.
            meta: a small mapping of your own.
        """
        self._log_dataset(_Given("log_dataset", name, data, version, context, step, meta), fingerprint, None)

    def log_inputs(self, data: Mapping[str, Any]) -> None:
        """Record the data that a tracked function is called with, by argument; 0.1 s in all.

        What takes longer gets a weaker fingerprint, which says so; of a folder of more than 2,000 files only
        the name is recorded. `log_dataset` takes its time.
        """
        deadline = time.perf_counter() + INPUTS_S
        for name, value in data.items():
            given = _Given("track", name, value)
            self._log_dataset(given, "auto", max(0.0, deadline - time.perf_counter()))

    def note_seeding(self) -> None:
        """Record what `mlobs.seed_everything` did last in this process."""
        with self._troubles.noted("seed_everything", "seed"):
            record_seeding(self._opened.append)

    def log_model(
        self,
        name: str,
        model: Any,
        step: int | None = None,
        *,
        serializer: Serializer | None = None,
        meta: Meta | None = None,
    ) -> None:
        """Record a model, saved by its own framework, as files in the run's folder `name`.

        Known are scikit-learn, torch (the state dict), XGBoost, LightGBM, CatBoost, Keras and ONNX;
        of anything else its own `save_pretrained`, `save_model` or `save` is called. Otherwise give a
        `serializer`: it gets the model and a path, to which it writes a file or a folder. mlobs itself
        pickles nothing but estimators of scikit-learn.

        Its fingerprint is recorded too (see `mlobs.fingerprint_model`): 0.3 s for 1 GB of weights.
        """
        place = self._opened.folder
        if place is None:
            return
        with self._troubles.noted("log_model", name):
            path = clean_path(name)
            with tempfile.TemporaryDirectory(prefix="saving-", dir=place.path) as temporary:
                folder = Path(temporary)
                facts = models.save_model(name, model, folder, serializer)
                more, number = {**(meta_of(meta) or {}), **facts}, optional_step(step)
                found = list(files.files_of(folder, path))
                self._tell_left(name, number, {one for _, one in found})
                self._keep_each(found, number, more, "model")
            if self._opened.plan.settings.repro != "off":
                self._keep_fingerprint(name, model, number)

    def _keep_fingerprint(self, name: str, model: Any, step: int | None) -> None:
        """Record a model's fingerprint, or why it has none: the model itself is recorded."""
        from mlobs.repro.model_fingerprint import SCHEME, fingerprint_model

        try:
            found = fingerprint_model(model)
        except UsageError as error:
            self._troubles.remark("log_model", name, f"has no fingerprint: {error}")
            return
        now = time.time()
        meta = {"library": found.library} if found.library else None
        self._opened.append(ModelFingerprint(now, name, found.text, SCHEME, found.leaves, step, meta))
        self._opened.append(Tags(now, {f"mlobs.model.{name}": found.text}))

    def _log_dataset(self, given: _Given, strength: FingerprintStrength, budget_s: float | None) -> None:
        folder = self._opened.folder
        if folder is None:
            return
        with self._troubles.noted(given.call, given.name):
            from mlobs.repro.fingerprint import fingerprint
            from mlobs.repro.stat_cache import StatCache
            from mlobs.repro.vast_folders import fingerprint_by_name, is_vast

            started = time.perf_counter()
            place = Store(folder.store).datasets
            access.make_folder(place)
            cache = StatCache(place / "files.cache")
            if budget_s is not None and is_vast(given.data):
                found = fingerprint_by_name(given.data)
            else:
                found = fingerprint(given.data, strength=strength, cache=cache, budget_s=budget_s)
            event = given.event(found, time.perf_counter() - started)
            self._opened.append(event)
            self._tell_changed(folder, given, found, event)

    def _tell_changed(self, folder: RunFolder, given: _Given, found: Fingerprint, event: Dataset) -> None:
        """Keep the version in the store's registry, and say so if it held other data before."""
        from mlobs.repro.dataset_comparison import changes
        from mlobs.repro.recorded_data import digests_of
        from mlobs.repro.registry import register

        try:
            other = register(Store(folder.store), folder.run_id, event, digests_of(found), found.size_bytes)
        except OSError as error:  # the run has it: the list of versions is a convenience
            said = f"is not in the store's list of versions: {error}"
            self._troubles.remark(given.call, given.name, said)
            return
        if other is None:
            return
        changed = "; ".join(changes(other.as_fingerprint(), found)[:_MOST_NAMED])
        said = f"version {event.version!r} held other data in run {other.run_id}: {changed}"
        self._troubles.remark(given.call, given.name, f"{said} - give changed data a version of its own")


class _Given(NamedTuple):
    """A dataset as the caller names it; `call` is what was called."""

    call: str
    name: str
    data: Any
    version: object = None
    context: object = "train"
    step: object = None
    meta: object = None

    def event(self, found: Fingerprint, seconds: float) -> Dataset:
        from mlobs.repro.recorded_data import digests_of, types_of

        facts = {"size_bytes": found.size_bytes, "notes": found.notes, "seconds": round(seconds, 3)}
        digests, types = digests_of(found), types_of(found)
        return Dataset(
            at=time.time(),
            name=name_of(self.name),
            version=None if self.version is None else text_of(self.version),
            fingerprint=found.text,
            strength=found.strength,
            context=text_of(self.context),
            source=_source_of(self.data),
            rows=found.rows,
            columns=types or None,
            step=optional_step(self.step),
            meta={**{key: value for key, value in facts.items() if value}, **(meta_of(self.meta) or {})},
            digests=digests if 0 < len(digests) <= _MOST_INLINE else None,
        )


def _source_of(data: Any) -> str | None:
    """Where the data lies, if it was named by a path or a URI, without secrets."""
    if isinstance(data, os.PathLike):
        data = os.fsdecode(os.fspath(data))
    if not isinstance(data, str):
        return None
    from mlobs.repro.pins import is_uri
    from mlobs.repro.recorded_data import public_uri

    return public_uri(data) if is_uri(data) else masked(os.path.abspath(data))  # noqa: PTH100 - a link stays one
