"""One batch on its way into an Azure ML run, kind by kind; each step may be repeated."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from typing import BinaryIO

import msgspec

from mlobs.backend import Batch, Entry
from mlobs.backends import (
    azureml_content,
    azureml_datasets,
    azureml_files,
    azureml_logs,
    azureml_metrics,
    azureml_runs,
)
from mlobs.backends.azureml_client import ORIGIN, Client
from mlobs.backends.azureml_content import Content
from mlobs.backends.azureml_errors import Refused
from mlobs.backends.azureml_rows import CONFUSION_MATRIX, IMAGE, Rows
from mlobs.backends.azureml_runs import AzureMLRun
from mlobs.events import Artifact, Log, RunFinished, RunStarted
from mlobs.text import json_bytes

_SHOWN_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_MAX_TABLE_BYTES = 1 << 20  # a larger one has more cells than a table of the portal
_DIGEST_BYTES = 4
_JSON = "application/json"


class Delivery:
    """Sends one batch; `rejected` and `lowered` are the receipt's."""

    def __init__(self, client: Client, run: AzureMLRun, batch: Batch) -> None:
        self._client, self._run, self._batch = client, run, batch
        self._rows = Rows(())
        self.rejected: dict[str, str] = {}

    @property
    def lowered(self) -> Mapping[str, str]:
        """What is stored in another form, and why."""
        return self._rows.lowered

    def send(self, content: Content) -> None:
        """Store all of it: what shows how far the run is goes last."""
        if content.reopened is not None:
            self._reopen(content.reopened)
        if content.metrics or content.histograms or content.files:
            self._rows = Rows(self._run.metric_names(self._client))
        for key in content.labelled:
            self._rows.lower(key, "Azure ML has no place for its labels (meta)")
        for key, event in content.metrics:
            self._rows.add_metrics(key, event)
        self._histograms(content)
        for entry in content.files:
            self._file(entry)
        self._datasets(content)
        self._post_rows()
        self._texts(content)
        self._logs(content.logs)
        if content.end is not None:
            self._finish(content.end)

    def _post_rows(self) -> None:
        run = self._run
        if not self._rows.series:
            return
        wholly, partly = azureml_metrics.post(self._client, run.experiment, run.id, self._rows)
        files = {entry.key for entry in self._batch.entries if isinstance(entry.event, Artifact)}
        for key, reason in {**wholly, **partly}.items():
            if key in wholly and key not in files:
                self.rejected[key] = reason
            else:
                self._rows.lower(key, reason)
        run.names = None if wholly or partly else self._rows.names

    def _histograms(self, content: Content) -> None:
        for key, event in content.histograms:
            if self._rows.add_histogram(key, event):
                continue
            data = json_bytes({"kind": "histogram", **msgspec.structs.asdict(event)})
            path = f"{azureml_files.OWN}histograms/{event.name}.json"
            stored = azureml_files.stored_path(Artifact(event.at, path, len(data), step=event.step))
            where = self._store(stored, key, lambda data=data: io.BytesIO(data), _JSON)  # type: ignore[misc]
            self._rows.lower(key, f"no room for another name among the metrics: it is the file {where!r}")

    def _file(self, entry: Entry) -> None:
        event = entry.event
        assert isinstance(event, Artifact)
        try:
            stored = azureml_files.stored_path(event)
            path = self._store(stored, entry.key, lambda: self._batch.open_blob(entry), event.media_type)
        except Refused as error:
            self.rejected[entry.key] = str(error)
            return
        if event.step is not None:
            self._rows.lower(entry.key, "the step stands in the file's name there")
        if path != stored:
            self._rows.lower(entry.key, "a path is written once there: it lies beside what came before")
        elif azureml_files.is_respelled(event):
            self._rows.lower(entry.key, "its path has characters that are spelled otherwise there")
        self._show(entry, event, path)

    def _show(self, entry: Entry, event: Artifact, path: str) -> None:
        """Let the portal draw what it can draw."""
        if event.role in ("image", "figure") and event.media_type in _SHOWN_IMAGES:
            self._rows.add_reference(entry.key, event.at, event.step, event.path, IMAGE, self._uri(path))
        elif event.media_type != _JSON or event.size_bytes > _MAX_TABLE_BYTES:
            return
        elif event.role == "table":
            with self._batch.open_blob(entry) as source:
                self._rows.add_table(entry.key, event.at, event.step, event.path, source.read())
        elif event.role == "confusion_matrix":
            with self._batch.open_blob(entry) as source:
                document = json.loads(source.read())
            drawn = self._store(
                azureml_files.SHOWN + path,
                entry.key,
                lambda: io.BytesIO(_confusion_matrix(document)),
                _JSON,
            )
            uri = self._uri(drawn)
            self._rows.add_reference(entry.key, event.at, event.step, event.path, CONFUSION_MATRIX, uri)

    def _datasets(self, content: Content) -> None:
        for key, event in content.datasets:
            data = msgspec.json.encode(event)
            path = azureml_files.stored_path(
                Artifact(event.at, f"{azureml_files.DATASETS}{event.name}.json", len(data))
            )
            self._store(path, key, lambda data=data: io.BytesIO(data), _JSON)  # type: ignore[misc]
            tag, text = azureml_content.dataset_tag(event)
            content.tags.setdefault(tag, text)
            if azureml_datasets.can_register(event):
                problem = azureml_datasets.register(self._client.context, event)
                if problem is not None:
                    self._rows.lower(key, f"it is a file and a tag, but not in the register: {problem}")

    def _texts(self, content: Content) -> None:
        """Set properties and tags that are new or changed, in one request.

        A property is written once: if another process was faster, its value stays, and ours is a tag.
        """
        run = self._run
        try:
            lowered = self._set(content)
        except Refused:
            run.seen(azureml_runs.found(self._client, run.ref))
            lowered = self._set(content)
        for key, reason in lowered.items():
            self._rows.lower(key, reason)

    def _set(self, content: Content) -> Mapping[str, str]:
        run = self._run
        properties, tags, lowered = azureml_content.place_params(content.params, run.properties)
        tags = {name: text for name, text in {**tags, **content.tags}.items() if run.tags.get(name) != text}
        self._make_room(properties, run.properties, "properties", azureml_content.MAX_TAGS)
        self._make_room(tags, run.tags, "tags", azureml_content.MAX_TAGS - azureml_content.END_ROOM)
        fields = {name: texts for name, texts in (("properties", properties), ("tags", tags)) if texts}
        if fields:
            run.seen(self._client.patch(run.experiment, run.id, **fields))
        return lowered

    def _make_room(self, texts: dict[str, str], held: Mapping[str, str], word: str, most: int) -> None:
        """Put what the run has no room for into a file: also others, and the job itself, fill it."""
        beyond = [name for name in texts if name not in held][max(0, most - len(held)) :]
        if not beyond:
            return
        key = self._batch.entries[0].key
        data = json_bytes({name: texts.pop(name) for name in beyond})
        where = self._store(f"{azureml_files.OWN}{word}.json", key, lambda: io.BytesIO(data), _JSON)
        reason = f"a run holds {azureml_content.MAX_TAGS} {word} there: {len(beyond)} are in {where!r}"
        self._rows.lower(key, reason)

    def _logs(self, events: list[tuple[str, Log]]) -> None:
        if not events:
            return
        ends = self._run.log_ends(self._client)
        by_writer: dict[str, list[tuple[int, str, Log]]] = {}
        for key, event in events:
            writer, offset = _digest(key.rpartition(":")[0]), azureml_logs.offset_of(key)
            if offset > ends.get(writer, -1):
                by_writer.setdefault(writer, []).append((offset, key, event))
        for writer, new in by_writer.items():
            span = azureml_logs.Span(writer, new[0][0], new[-1][0])
            text = azureml_logs.text_of(event for _, _, event in new).encode("utf-8", "backslashreplace")
            self._store(span.path, new[0][1], lambda text=text: io.BytesIO(text), "text/plain")  # type: ignore[misc]
            ends[writer] = span.last

    def _reopen(self, started: RunStarted) -> None:
        """Take back the end of an earlier attempt."""
        run = self._run
        old = sorted(azureml_content.END_TAGS & run.tags.keys())
        if old:
            run.seen(self._client.delete_tags(run.experiment, run.id, old))
        tags = {azureml_content.ATTEMPT: str(started.attempt)}
        run.seen(self._client.patch(run.experiment, run.id, tags=tags))
        azureml_runs.start(self._client, run, started.at)

    def _finish(self, end: RunFinished) -> None:
        run = self._run
        if end.traceback:
            text = end.traceback.encode("utf-8", "backslashreplace")
            key = f"end {end.at!r}"  # the same however the batch is cut
            self._store(azureml_files.TRACEBACK, key, lambda: io.BytesIO(text), "text/plain")
        tags = azureml_content.end_tags(end)
        old = sorted((azureml_content.END_TAGS & run.tags.keys()) - tags.keys())
        if old:
            run.seen(self._client.delete_tags(run.experiment, run.id, old))
        try:
            run.seen(self._client.patch(run.experiment, run.id, tags=tags))
        except Refused as error:  # the status is worth more than its tags
            self._rows.lower(self._batch.entries[-1].key, f"the end has no tags there: {error}")
        azureml_runs.finish(self._client, run, end)

    def _store(self, path: str, key: str, content: Callable[[], BinaryIO], media_type: str) -> str:
        return azureml_files.store(self._client, self._run.container, path, _digest(key), content, media_type)

    def _uri(self, path: str) -> str:
        return f"aml://artifactId/{ORIGIN}/{self._run.container}/{path}"


def _digest(key: str) -> str:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()


def _confusion_matrix(document: Mapping[str, object]) -> bytes:
    """Return the form that the portal draws, azureml.core.Run.log_confusion_matrix."""
    data = {"class_labels": document.get("labels"), "matrix": document.get("matrix")}
    return json_bytes({"schema_type": "confusion_matrix", "schema_version": "1.0.0", "data": data})
