"""A backend of one's own: each run is a file of JSON lines. Save it as a module, name it like any other."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mlobs import Unavailable
from mlobs.backend import Batch, Capabilities, Receipt, Source
from mlobs.events import Event, Known


@dataclass
class JsonLines:
    folder: str = "lines"
    name: str = "jsonlines"
    capabilities = Capabilities(kinds=frozenset({"params", "metrics", "tags", "run_finished"}))

    def deliver(self, batch: Batch) -> Receipt:
        path = Path(self.folder, f"{batch.run.run_id}.jsonl")
        lines = [json.dumps(msgspec.to_builtins(entry.event)) + "\n" for entry in batch.entries]
        known_bytes = int(batch.ref.rpartition("@")[2]) if batch.ref else 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.truncate(known_bytes)  # what a delivery wrote that was not answered
                file.write("".join(lines).encode())
                file.flush()
                os.fsync(file.fileno())
                return Receipt(f"{path}@{os.fstat(file.fileno()).st_size}", vendor_id=str(path))
        except OSError as error:
            raise Unavailable(f"{path} cannot be written now: {error}") from error

    def source(self) -> Source:
        return self

    def read(self, ref: str) -> Iterator[Event]:
        for line in Path(ref.rpartition("@")[0]).read_text(encoding="utf-8").splitlines():
            yield msgspec.convert(json.loads(line), Known)

    def close(self) -> None:
        """No file stays open between batches."""
