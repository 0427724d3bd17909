"""What the TensorBoard adapter promises, read back with TensorBoard's own readers and server."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import math
import os
import re
import resource
import struct
import subprocess
import sys
import textwrap
import time
import urllib.parse
import urllib.request
import warnings
import zlib
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import (
    EventAccumulator as ServerAccumulator,
)
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.util import tensor_util

from mlobs.backend import Backend, Batch, Entry, Receipt
from mlobs.backends.tensorboard import TensorBoard
from mlobs.backends.tensorboard_place import file_name
from mlobs.errors import DeliveryError, Unauthorized, Unavailable, UsageError
from mlobs.events import (
    Artifact,
    Heartbeat,
    Histogram,
    Log,
    Metrics,
    Params,
    Process,
    Rewind,
    RunFinished,
    RunStarted,
    Tags,
)

AT = 1_700_000_000.25


def run_started(run_id="01hf7yat00-4c1f9e2ab7d3", name="baseline", experiment="churn"):
    return RunStarted(AT, run_id, experiment, name, Process("host-1", 42))


def batch_of(*events, run=None, ref=None, first=0, blobs=None):
    """A batch whose entries are numbered from `first`; `blobs` maps an artifact's path to bytes."""
    run = run or run_started()
    entries = tuple(Entry(f"{run.run_id}:w:{first + i}", event) for i, event in enumerate(events))

    def open_blob(entry):
        return io.BytesIO((blobs or {})[entry.event.path])

    return Batch(run=run, entries=entries, open_blob=open_blob, ref=ref)


def event_file(board: TensorBoard, receipt: Receipt) -> Path:
    return Path(board.logdir) / json.loads(receipt.ref)["file"]


def accumulate(path: Path) -> EventAccumulator:
    everything = dict.fromkeys(("scalars", "tensors", "images", "histograms"), 0)
    accumulator = EventAccumulator(str(path), size_guidance=everything)
    accumulator.Reload()
    return accumulator


def scalars(path: Path, tag: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in accumulate(path).Scalars(tag)]


def texts(path: Path, name: str) -> list[str]:
    tensors = accumulate(path).Tensors(f"{name}/text_summary")
    return [event.tensor_proto.string_val[0].decode() for event in tensors]


def render(markdown: str) -> str:
    """The HTML that TensorBoard's server makes of a text."""
    with warnings.catch_warnings():  # its own copy of bleach uses a deprecated part of its own html5lib
        warnings.filterwarnings("ignore", r"\s*html5lib's sanitizer is deprecated", DeprecationWarning)
        from tensorboard.plugin_util import markdown_to_safe_html
    return markdown_to_safe_html(markdown)


def float32(value: float) -> float:
    return struct.unpack("<f", struct.pack("<f", value))[0]


@pytest.fixture
def board(tmp_path):
    return TensorBoard(str(tmp_path / "runs"))


def test_it_is_a_backend_and_constructing_it_does_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    board = TensorBoard("logs")
    assert isinstance(board, Backend)
    assert board.logdir == str(tmp_path / "logs")
    assert not (tmp_path / "logs").exists()
    board.close()


def test_a_remote_log_folder_is_refused_at_construction():
    with pytest.raises(UsageError, match="expected a folder"):
        TensorBoard("s3://bucket/logs")


def test_every_value_comes_back_as_its_nearest_32_bit_float(board):
    points = [Metrics(AT + i, step, {"loss": 0.1 * i, "acc": 1 / 3}) for i, step in enumerate((0, 5, 2, -7))]
    receipt = board.deliver(batch_of(run_started(), *points))
    path = event_file(board, receipt)
    assert scalars(path, "loss") == [(p.step, float32(p.values["loss"])) for p in points]
    assert scalars(path, "acc") == [(p.step, float32(1 / 3)) for p in points]
    assert [p.wall_time for p in accumulate(path).Scalars("loss")] == [p.at for p in points]
    assert not receipt.rejected
    assert not receipt.lowered


def test_nan_and_infinities_are_values(board):
    values = {"nan": math.nan, "up": math.inf, "down": -math.inf}
    receipt = board.deliver(batch_of(Metrics(AT, 1, values)))
    accumulator = accumulate(event_file(board, receipt))
    assert math.isnan(accumulator.Scalars("nan")[0].value)
    assert accumulator.Scalars("up")[0].value == math.inf
    assert accumulator.Scalars("down")[0].value == -math.inf
    assert not receipt.lowered


def test_a_value_beyond_32_bits_is_reported_as_lowered(board):
    batch = batch_of(Metrics(AT, 1, {"huge": 1e300}), Metrics(AT, 2, {"huge": 1.0}))
    assert set(board.deliver(batch).lowered) == {batch.entries[0].key}


def test_labels_of_a_point_are_reported_as_lowered(board):
    batch = batch_of(Metrics(AT, 1, {"loss": 1.0}, {"split": "val"}))
    assert "meta" in board.deliver(batch).lowered[batch.entries[0].key]


def test_a_metric_may_have_any_name(board):
    names = ["val/loss", "ångström", "损失", "a b\tc", "50%|`x`", "../up", "🙂", "params", "x" * 5000]
    path = event_file(
        board, board.deliver(batch_of(Params(AT, {"lr": 1}), Metrics(AT, 1, dict.fromkeys(names, 2.0))))
    )
    for name in names:
        assert scalars(path, name) == [(1, 2.0)]


def test_a_step_beyond_64_bits_is_rejected_alone(board):
    batch = batch_of(Metrics(AT, 2**63, {"a": 1.0}), Metrics(AT, 2**63 - 1, {"a": 2.0}))
    receipt = board.deliver(batch)
    assert set(receipt.rejected) == {batch.entries[0].key}
    assert scalars(event_file(board, receipt), "a") == [(2**63 - 1, 2.0)]


def test_a_kind_that_it_does_not_take_is_rejected_with_a_reason(board):
    batch = batch_of(Heartbeat(AT), Metrics(AT, 1, {"a": 1.0}))
    assert "heartbeat" in board.deliver(batch).rejected[batch.entries[0].key]


def test_a_repeated_batch_is_stored_once_with_equal_bytes(board):
    first = board.deliver(batch_of(run_started(), Params(AT, {"lr": 0.1}), Metrics(AT, 0, {"loss": 1.0})))
    again = batch_of(
        Params(AT, {"lr": 0.2, "depth": 3}, "keep_first"),
        Tags(AT, {"team": "x"}),
        Metrics(AT, 1, {"loss": 0.5}),
        RunFinished(AT, "FINISHED"),
        ref=first.ref,
        first=3,
    )
    receipts, contents = [], []
    for instance in (board, board, TensorBoard(board.logdir)):
        receipts.append(instance.deliver(again))
        contents.append([p.read_bytes() for p in sorted(event_file(board, first).parent.iterdir())])
    assert receipts[0] == receipts[1] == receipts[2]
    assert contents[0] == contents[1] == contents[2]
    assert scalars(event_file(board, first), "loss") == [(0, 1.0), (1, 0.5)]


def test_a_first_batch_whose_receipt_was_lost_is_stored_once(board):
    batch = batch_of(run_started(), Metrics(AT, 0, {"loss": 1.0}))
    assert board.deliver(batch) == board.deliver(batch)
    assert scalars(event_file(board, board.deliver(batch)), "loss") == [(0, 1.0)]


@pytest.mark.parametrize("garbage", [b"\x00" * 100, b"half a record", None])
def test_what_a_crash_left_behind_the_reference_is_cut_off(board, garbage):
    first = board.deliver(batch_of(run_started(), Metrics(AT, 0, {"loss": 1.0})))
    if garbage is None:  # a whole later batch, never acknowledged
        board.deliver(
            batch_of(*(Metrics(AT, s, {"loss": 9.0}) for s in range(1, 50)), ref=first.ref, first=2)
        )
    else:
        with event_file(board, first).open("ab") as file:
            file.write(garbage)
    restarted = TensorBoard(board.logdir)
    receipt = restarted.deliver(batch_of(Metrics(AT, 1, {"loss": 0.5}), ref=first.ref, first=2))
    assert scalars(event_file(board, receipt), "loss") == [(0, 1.0), (1, 0.5)]


def from_place(place, *events, ref=None, first=0):
    batch = batch_of(*events, ref=ref, first=first)
    return dataclasses.replace(batch, place=place)


def test_a_copy_of_the_store_destroys_nothing_that_the_original_has_delivered(board, tmp_path):
    original, copy = str(tmp_path / "ä store\n"), str(tmp_path / "copy")
    Path(original).mkdir()
    points = [Metrics(AT + step, step, {"loss": float(step)}) for step in range(4)]
    first = board.deliver(from_place(original, run_started(), points[0]))
    second = board.deliver(from_place(original, points[1], ref=first.ref, first=2))
    kept = event_file(board, first).read_bytes()

    for ref in (
        None,
        first.ref,
        second.ref,
    ):  # copied before anything was delivered, after one batch, after two
        batch = [run_started(), *points] if ref is None else points[1:]
        with pytest.raises(
            Unavailable, match=re.escape(f"another copy of the store, {original} - sync that one")
        ):
            board.deliver(from_place(copy, *batch, ref=ref, first=0 if ref is None else 2))
    assert event_file(board, first).read_bytes() == kept

    Path(original).rmdir()  # it was moved, not copied
    ahead = board.deliver(from_place(copy, points[2], ref=second.ref, first=3))
    with pytest.raises(Unavailable, match="another copy of the store"):
        board.deliver(from_place(original, *points[2:], ref=second.ref, first=3))
    assert scalars(event_file(board, ahead), "loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]


def test_a_file_whose_middle_is_another_is_not_cut(board):
    first = board.deliver(from_place("/store", run_started(), Metrics(AT, 0, {"loss": 0.0})))
    path = event_file(board, first)
    path.write_bytes(bytes(path.stat().st_size + 10))
    with pytest.raises(Unavailable, match="not as it was left"):
        board.deliver(from_place("/store", Metrics(AT, 1, {"loss": 1.0}), ref=first.ref, first=2))


def test_what_the_same_place_did_not_get_acknowledged_is_replaced_however_many_batches(board):
    points = [Metrics(AT + step, step, {"loss": float(step)}) for step in range(4)]
    first = ref = board.deliver(from_place("/store", run_started(), points[0]))
    for step in (1, 2, 3):
        ref = board.deliver(from_place("/store", points[step], ref=ref.ref, first=step + 1))
    again = board.deliver(from_place("/store", *points[1:], ref=first.ref, first=2))  # after a power cut
    assert scalars(event_file(board, again), "loss") == [(step, float(step)) for step in range(4)]


def test_a_batch_that_fails_halfway_leaves_the_file_as_it_was(board):
    first = board.deliver(batch_of(run_started(), Metrics(AT, 0, {"loss": 1.0})))
    before = event_file(board, first).read_bytes()
    batch = batch_of(
        Metrics(AT, 1, {"loss": 0.5}), Artifact(AT, "gone.txt", 3, "text"), ref=first.ref, first=2
    )

    def gone(_):
        raise FileNotFoundError(errno.ENOENT, "no such blob")

    with pytest.raises(DeliveryError, match="gone") as raised:
        board.deliver(Batch(batch.run, batch.entries, gone, batch.ref))
    assert not isinstance(raised.value, Unavailable)  # the lane shall find the event at fault
    assert event_file(board, first).read_bytes() == before


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: os.truncate(path, 10)])
def test_delivered_points_that_disappeared_are_not_silently_begun_anew(board, damage):
    first = board.deliver(batch_of(run_started(), Metrics(AT, 0, {"loss": 1.0})))
    path = event_file(board, first)
    kept = path.read_bytes()
    damage(path)
    later = batch_of(Metrics(AT, 1, {"loss": 0.5}), ref=first.ref, first=2)
    with pytest.raises(Unavailable, match=re.escape(str(path))):
        board.deliver(later)
    path.write_bytes(kept)
    assert scalars(event_file(board, board.deliver(later)), "loss") == [(0, 1.0), (1, 0.5)]


def test_params_that_disappeared_are_not_silently_begun_anew(board):
    first = board.deliver(batch_of(run_started(), Params(AT, {"lr": 0.1})))
    event_file(board, first).with_suffix(".facts").unlink()
    with pytest.raises(Unavailable, match="facts"):
        board.deliver(batch_of(Params(AT, {"depth": 3}), ref=first.ref, first=2))


@contextmanager
def files_limited_to(size_bytes):
    """The kernel refuses to let a file grow further, as on a full disk (Python ignores SIGXFSZ)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_is_unavailable_and_the_same_batch_is_stored_once_later(board):
    first = board.deliver(batch_of(run_started(), Metrics(AT, 0, {"loss": 1.0})))
    before = event_file(board, first).read_bytes()
    points = [Metrics(AT, step, {"loss": 0.5}) for step in range(1, 20_000)]
    later = batch_of(*points, ref=first.ref, first=2)
    with files_limited_to(300_000), pytest.raises(Unavailable, match=re.escape(board.logdir)):
        board.deliver(later)
    assert event_file(board, first).read_bytes() == before
    path = event_file(board, board.deliver(later))
    assert scalars(path, "loss") == [(0, 1.0)] + [(p.step, 0.5) for p in points]


@pytest.mark.skipif(sys.platform != "linux", reason="/sys lets nobody make a folder, not even root")
def test_a_folder_that_may_not_be_written_is_unauthorized():
    with pytest.raises(Unauthorized, match="chmod"):
        TensorBoard("/sys/kernel/runs").deliver(batch_of(run_started()))


def test_runs_of_one_name_have_a_folder_each_and_odd_names_are_made_safe(board):
    names = ["baseline", "a/b", "..", "x" * 300, "漢" * 100, "", "CON: 'q'?*"]
    folders = set()
    for i, name in enumerate(names * 2):
        run = run_started(run_id=f"01hf7yat00-{i:012x}", name=name, experiment="team/../churn ")
        receipt = board.deliver(batch_of(run, Metrics(AT, 0, {"n": i}), run=run))
        path = event_file(board, receipt)
        folders.add(path.parent)
        assert path.resolve().parent.parent == Path(board.logdir) / "team_.._churn"
        assert scalars(path.parent, "n") == [(0, i)]
    assert len(folders) == 2 * len(names)


def test_a_file_name_is_never_empty_hidden_or_a_step_upwards():
    for text in ("", ".", "..", " ", "/", "\0", "a/../..", "\n"):
        name = file_name(text)
        assert name
        assert not name.startswith(".")
        assert not set(name) & set("/\\\0\n")


def test_a_second_writer_of_the_run_has_a_file_of_its_own_in_the_run_s_folder(board):
    opener = board.deliver(batch_of(run_started(), Metrics(AT, 0, {"loss": 1.0})))
    joined = board.deliver(batch_of(Metrics(AT, 0, {"loss_rank_1": 2.0}), first=77))
    assert event_file(board, opener).parent == event_file(board, joined).parent
    assert scalars(event_file(board, opener), "loss") == [(0, 1.0)]
    assert scalars(event_file(board, joined), "loss_rank_1") == [(0, 2.0)]


def test_params_and_tags_are_texts_that_show_them_literally(board):
    odd = {"opt.lr": 0.1, "layers": [1, 2], "name": "a|b `c` <b> *d*", "none": None, "text": "two\nlines"}
    first = board.deliver(batch_of(run_started(), Params(AT, odd), Tags(AT, {"team": "x", "stage": "dev"})))
    second = board.deliver(
        batch_of(Params(AT + 1, {"depth": 3}), Tags(AT + 1, {"stage": "prod"}), ref=first.ref, first=3)
    )
    path = event_file(board, second)
    table = texts(path, "params")[-1]
    rendered = render(table)
    assert "| `opt.lr` | `0.1` |" in table
    assert "| `depth` | `3` |" in table
    for shown in ("a|b `c` &lt;b&gt; *d*", "[1, 2]", "two lines"):
        assert f"<td><code>{shown}</code></td>" in rendered
    assert [row for row in texts(path, "tags")[-1].splitlines() if "stage" in row] == ["| `stage` | `prod` |"]
    assert "| `run_id` | `01hf7yat00-4c1f9e2ab7d3` |" in texts(path, "run")[0]


@pytest.mark.parametrize(("conflict", "counts"), [("keep_first", ("0.1", 0.1)), ("overwrite", ("0.2", 0.2))])
def test_the_param_that_counts_is_the_one_that_is_shown(board, conflict, counts):
    first = board.deliver(batch_of(run_started(), Params(AT, {"lr": 0.1})))
    receipt = board.deliver(batch_of(Params(AT, {"lr": 0.2}, conflict), ref=first.ref, first=2))
    path = event_file(board, receipt)
    assert f"| `lr` | `{counts[0]}` |" in texts(path, "params")[-1]
    assert hparams(path.parent)["lr"].number_value == counts[1]


def hparams(folder: Path):
    content = accumulate(folder).PluginTagToContent("hparams")[metadata.SESSION_START_INFO_TAG]
    return metadata.parse_session_start_info_plugin_data(content).hparams


def test_params_of_all_batches_are_in_hparams_and_the_end_closes_the_session(board):
    ref, first = None, 0
    for event in (
        run_started(),
        Params(AT, {"lr": 0.1, "amp": True}),
        Params(AT, {"opt": "adam", "nan": math.nan}),
    ):
        ref = board.deliver(batch_of(event, ref=ref, first=first)).ref
        first += 1
    end = RunFinished(AT + 9, "FAILED", "ValueError: ```bad```", "Traceback ...\nValueError: ```bad```")
    path = event_file(board, board.deliver(batch_of(end, ref=ref, first=first)))
    held = hparams(path.parent)
    assert (held["lr"].number_value, held["amp"].bool_value) == (0.1, True)
    assert (held["opt"].string_value, held["nan"].string_value) == ("adam", "nan")
    content = accumulate(path.parent).PluginTagToContent("hparams")[metadata.SESSION_END_INFO_TAG]
    session_end = metadata.parse_session_end_info_plugin_data(content)
    assert (session_end.status, session_end.end_time_secs) == (api_pb2.STATUS_FAILURE, AT + 9)
    shown = render(texts(path, "status")[0])
    assert "<strong>FAILED</strong>" in shown
    assert "Traceback ...\nValueError: ```bad```" in shown


def test_text_artifacts_are_shown_and_other_files_are_named(board):
    blobs = {
        "notes.md": b"# Title",
        "log.txt": b"a *b*\n```\nc",
        "latin.txt": b"caf\xe9",
        "long.txt": b"x" * 300_000,
    }
    media = {"notes.md": "text/markdown"}
    events = [
        Artifact(AT, path, len(data), "text", media.get(path, "text/plain"), blob=i, step=i)
        for i, (path, data) in enumerate(blobs.items())
    ]
    batch = batch_of(*events, Artifact(AT, "models/m.bin", 5, meta={"epoch": 3}, step=7), blobs=blobs)
    receipt = board.deliver(batch)
    path = event_file(board, receipt)
    assert texts(path, "notes.md") == ["# Title"]
    assert "a *b*\n```\nc" in render(texts(path, "log.txt")[0])
    assert accumulate(path).Tensors("log.txt/text_summary")[0].step == 1
    assert "caf\ufffd" in texts(path, "latin.txt")[0]
    reference = texts(path, "artifacts/models/m.bin")[0]
    for fact in ("`models/m.bin`", "`5`", "`application/octet-stream`", "`epoch` | `3`"):
        assert fact in reference
    assert set(receipt.lowered) == {entry.key for entry in batch.entries[2:]}
    assert "262144 of 300000" in receipt.lowered[batch.entries[3].key]


def test_log_lines_are_few_texts_numbered_by_line(board):
    logs = [Log(AT + i, f"line {i}", "INFO", "train") for i in range(5000)]
    bad = Log(AT, "bad", "ERROR", "train", exception="Traceback ...\nKeyError: 'x'")
    first = board.deliver(
        batch_of(run_started(), *logs[:3], Metrics(AT, 0, {"a": 1.0}), Log(AT, "s", stream="stdout"))
    )
    second = board.deliver(batch_of(*logs[4:], bad, ref=first.ref, first=6))
    path = event_file(board, second)
    shown = texts(path, "log")
    assert "2023-11-14 22:13:20.250 INFO train: line 0\n" in shown[0]
    assert "stdout: s" in shown[0]
    assert len(shown) == 5
    assert [e.step for e in accumulate(path).Tensors("log/text_summary")][:2] == [0, 4]
    assert all(f"line {i}\n" in "".join(shown) for i in range(5000) if i != 3)
    assert "ERROR train: bad\nTraceback ...\nKeyError: 'x'" in shown[-1]


def png(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress((b"\0" + b"\x80" * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_png_images_are_images_and_other_pictures_are_named(board):
    blobs = {"sample": png(5, 3), "plot": b"<svg/>", "false": b"not a png"}
    batch = batch_of(
        Artifact(AT, "sample", 99, "image", "image/png", step=4),
        Artifact(AT, "plot", 6, "figure", "image/svg+xml"),
        Artifact(AT, "false", 9, "image", "image/png"),
        blobs=blobs,
    )
    receipt = board.deliver(batch)
    accumulator = accumulate(event_file(board, receipt))
    (image,) = accumulator.Images("sample/image_summary")
    assert (image.step, image.width, image.height) == (4, 5, 3)
    assert image.encoded_image_string == blobs["sample"]
    assert set(receipt.lowered) == {entry.key for entry in batch.entries[1:]}


def test_a_histogram_keeps_its_bins_beside_a_metric_of_the_same_name(board):
    bins = Histogram(AT, 3, "loss", [1.0, 0.0, 5.0], [-1.0, 0.0, 0.1, 2.0])
    path = event_file(board, board.deliver(batch_of(bins, Metrics(AT, 3, {"loss": 1.0}))))
    (event,) = accumulate(path).Tensors("loss/histogram_summary")
    held = tensor_util.make_ndarray(event.tensor_proto).tolist()
    assert held == [[-1.0, 0.0, 1.0], [0.0, 0.1, 0.0], [0.1, 2.0, 5.0]]
    assert scalars(path, "loss") == [(3, 1.0)]


def test_after_a_rewind_readers_forget_the_later_points_but_no_param(board):
    def points(at, steps):
        return [Metrics(at, step, {"loss": at - AT}) for step in steps]

    batch = batch_of(Params(AT, {"lr": 1}), *points(AT, range(5)), Rewind(AT, 2), *points(AT + 1, (2, 3)))
    first = board.deliver(batch)
    assert scalars(event_file(board, first), "loss") == [(0, 0), (1, 0), (2, 1), (3, 1)]
    server_side = ServerAccumulator(str(event_file(board, first)))
    server_side.Reload()
    assert [one.step for one in server_side.Tensors("loss")] == [0, 1, 2, 3]
    second = board.deliver(batch_of(Rewind(AT, 0), *points(AT + 2, (0,)), ref=first.ref, first=9))
    assert scalars(event_file(board, second), "loss") == [(0, 2)]
    server_side = ServerAccumulator(str(event_file(board, second)))  # this one forgets texts too
    server_side.Reload()
    (table,) = server_side.Tensors("params/text_summary")
    assert b"| `lr` | `1` |" in table.tensor_proto.string_val[0]


def test_what_a_rewind_hides_besides_points_is_said(board):
    logs = [Log(AT, f"line {n}") for n in range(5)]
    first = board.deliver(batch_of(run_started(), *logs, Histogram(AT, None, "w", [1.0], [0.0, 1.0])))
    batches = [
        batch_of(Rewind(AT, 7), ref=first.ref, first=7),
        batch_of(Rewind(AT, 3), ref=first.ref, first=7),
        batch_of(Rewind(AT, 0), Log(AT, "after"), ref=first.ref, first=7),
    ]
    said = [board.deliver(batch).lowered.get(batch.entries[0].key, "") for batch in batches]

    assert said[0] == ""
    assert said[1].endswith("log lines stand at their numbers, and those from 3 on are hidden too")
    assert "what has no step stands at step 0 there, and is hidden too" in said[2]
    server_side = ServerAccumulator(str(event_file(board, first)))
    server_side.Reload()
    assert "w/histogram_summary" in server_side.Tags()["tensors"]
    assert server_side.Tensors("w/histogram_summary") == []
    (log,) = server_side.Tensors("log/text_summary")
    assert b"after" in log.tensor_proto.string_val[0]


def test_its_source_gives_back_what_was_delivered_in_order(board):
    events = [
        Metrics(AT + 1, 0, {"loss": 0.5, "acc": 0.25}),
        Metrics(AT + 2, 0, {"loss": 0.5}),
        Histogram(AT + 3, 1, "w", [1.0, 2.0], [0.0, 0.5, 1.0]),
        Rewind(AT + 4, 1),
        Metrics(AT + 5, -3, {"loss": math.inf}),
        RunFinished(AT + 6, "KILLED", "SIGTERM", None, 143),
    ]
    params = {
        "lr": 0.1,
        "depth": 7,
        "ratio": 7.0,
        "layers": [1, "a"],
        "amp": False,
        "none": None,
        "big": 2**60,
    }
    first = board.deliver(batch_of(run_started(), Params(AT, params), Tags(AT, {"team": "x"}), *events[:2]))
    ref = board.deliver(batch_of(*events[2:], ref=first.ref, first=5)).ref
    back = list(TensorBoard(board.logdir).source().read(ref))
    assert back == [Params(AT, params), Tags(AT, {"team": "x"}), *events]
    types = {name: type(value) for name, value in back[0].values.items()}
    assert types == {name: type(value) for name, value in params.items()}


def test_its_source_says_that_a_file_is_gone(board):
    receipt = board.deliver(batch_of(run_started()))
    event_file(board, receipt).unlink()
    with pytest.raises(Unavailable, match="gone"):
        list(board.source().read(receipt.ref))


def test_neither_delivering_nor_reading_imports_tensorflow_even_if_it_is_installed(tmp_path):
    trap = tmp_path / "site"
    trap.mkdir()
    (trap / "tensorflow.py").write_text("raise SystemExit('tensorflow was imported')")
    script = f"""
        import sys
        sys.path[:0] = [{str(trap)!r}, {str(Path(__file__).parents[2] / "src")!r}]
        from mlobs.backend import Batch, Entry
        from mlobs.backends.tensorboard import TensorBoard
        from mlobs.events import Histogram, Metrics, Params, Process, RunFinished, RunStarted
        assert not any(name.startswith("tensorboard") for name in sys.modules)
        board = TensorBoard({str(tmp_path / "runs")!r})
        run = RunStarted(1.0, "r", "e", "n", Process("h", 1))
        events = (run, Params(1.0, {{"a": 1}}), Metrics(1.0, 0, {{"b": 1.0}}), RunFinished(1.0, "FINISHED"))
        events += (Histogram(1.0, 0, "h", [1.0], [0.0, 1.0]),)
        batch = Batch(run, tuple(Entry(str(i), event) for i, event in enumerate(events)), open)
        ref = board.deliver(batch).ref
        ref = board.deliver(Batch(run, (Entry("p", Params(1.0, {{"c": 1}})),), open, ref)).ref
        assert len(list(board.source().read(ref))) == 4
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=60)


def test_a_missing_package_names_the_extra_to_install(tmp_path):
    """-S leaves site-packages out; msgspec alone is handed over, as in an environment without the extra."""
    (tmp_path / "site").mkdir()
    package = Path(msgspec.__file__).parent
    (tmp_path / "site" / "msgspec").symlink_to(package)
    script = f"""
        import sys
        sys.path[:0] = [{str(tmp_path / "site")!r}, {str(Path(__file__).parents[2] / "src")!r}]
        from mlobs.backend import Batch
        from mlobs.backends.tensorboard import TensorBoard
        from mlobs.errors import MissingPackage
        from mlobs.events import Process, RunStarted
        board = TensorBoard({str(tmp_path)!r})
        run = RunStarted(1.0, "r", "e", "n", Process("h", 1))
        for use in (lambda: board.deliver(Batch(run, (), open)), board.source):
            try:
                use()
            except MissingPackage as error:
                assert error.extra == "tensorboard", error
                assert "mlobs[tensorboard]" in str(error), error
            else:
                raise SystemExit("no MissingPackage")
    """
    subprocess.run([sys.executable, "-S", "-c", textwrap.dedent(script)], check=True, timeout=60)


def test_a_broken_vendor_package_lets_the_events_wait(tmp_path):
    """An old tensorboard beside a new NumPy or protobuf fails with whatever error, not ImportError."""
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / "__init__.py").write_text("raise AttributeError('np.string_ was removed')")
    script = f"""
        import sys
        sys.path[:0] = [{str(tmp_path)!r}, {str(Path(__file__).parents[2] / "src")!r}]
        from mlobs.backends.tensorboard import TensorBoard
        from mlobs.errors import Unavailable
        try:
            TensorBoard().source()
        except Unavailable as error:
            assert "np.string_" in str(error) and "pip install" in str(error), error
        else:
            raise SystemExit("no Unavailable")
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=60)


@contextmanager
def tensorboard_server(logdir: str, log: Path, *options):
    """A real TensorBoard on a port of the kernel's choice; gives a function that GETs or POSTs JSON."""
    command = [
        sys.executable,
        "-m",
        "tensorboard.main",
        "--logdir",
        logdir,
        "--host",
        "127.0.0.1",
        "--port",
        "0",
    ]
    command += options
    with log.open("w+") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output)
        try:

            def address():
                assert server.poll() is None, log.read_text()
                return re.search(r"http://127\.0\.0\.1:\d+", log.read_text())

            base = wait_for(address).group()

            def ask(route, query=None, body=None):
                url = f"{base}/data/{route}?{urllib.parse.urlencode(query or {})}"
                data = None if body is None else json.dumps(body).encode()
                request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
                with urllib.request.urlopen(request, timeout=20) as response:
                    answer = response.read()
                return (
                    json.loads(answer) if response.headers["Content-Type"] == "application/json" else answer
                )

            yield ask
        finally:
            server.terminate()
            server.wait(20)


def wait_for(ask, bound_s=60):
    deadline = time.monotonic() + bound_s
    while not (answer := ask()):
        assert time.monotonic() < deadline, "no answer within its bound"
        time.sleep(0.1)
    return answer


@pytest.mark.parametrize("loader", ["true", "false"])
def test_a_real_tensorboard_shows_it_all(board, tmp_path, loader):
    """Both of its loaders: the fast one (--load_fast=true, a binary of its own) and the one in Python."""
    blobs = {"sample": png(5, 3), "notes": b"# Title"}
    first = board.deliver(
        batch_of(run_started(), Params(AT, {"lr": 0.1, "amp": True}), Tags(AT, {"team": "x"}))
    )
    events = [Metrics(AT + s, s, {"val/loss": 1 / (s + 1), "nan": math.nan}) for s in range(5)]
    events += [Histogram(AT, 1, "w", [1.0, 2.0], [0.0, 0.5, 1.0]), Params(AT, {"opt": "adam"})]
    events += [
        Artifact(AT, "sample", 9, "image", "image/png"),
        Artifact(AT, "notes", 9, "text", "text/markdown"),
    ]
    events += [Log(AT, "epoch 1"), RunFinished(AT + 9, "FINISHED")]
    run = event_file(board, board.deliver(batch_of(*events, ref=first.ref, first=3, blobs=blobs))).parent
    run_name = str(run.relative_to(board.logdir))
    with tensorboard_server(board.logdir, tmp_path / "log", "--load_fast", loader) as ask:
        wait_for(lambda: "val/loss" in ask("plugin/scalars/tags").get(run_name, {}))
        points = ask("plugin/scalars/scalars", {"run": run_name, "tag": "val/loss"})
        assert points == [[AT + s, s, float32(1 / (s + 1))] for s in range(5)]
        assert ask("plugin/scalars/scalars", {"run": run_name, "tag": "nan"})[0][2] == "NaN"
        (bins,) = ask("plugin/histograms/histograms", {"run": run_name, "tag": "w/histogram_summary"})
        assert bins[2] == [[0.0, 0.5, 1.0], [0.5, 1.0, 2.0]]
        (image,) = ask("plugin/images/images", {"run": run_name, "tag": "sample/image_summary", "sample": 0})
        assert (
            ask("plugin/images/individualImage", dict(urllib.parse.parse_qsl(image["query"])))
            == blobs["sample"]
        )
        shown = {
            name: ask("plugin/text/text", {"run": run_name, "tag": f"{name}/text_summary"})[-1]["text"]
            for name in ("params", "tags", "run", "notes", "log", "status")
        }
        assert "<td><code>opt</code></td>\n<td><code>adam</code></td>" in shown["params"]
        assert "<td><code>team</code></td>\n<td><code>x</code></td>" in shown["tags"]
        assert shown["notes"] == "<h1>Title</h1>"
        assert "epoch 1" in shown["log"]
        assert "FINISHED" in shown["status"]
        columns = {"allowedStatuses": ["STATUS_SUCCESS"], "colParams": [], "startIndex": 0, "sliceSize": 9}
        (group,) = ask("plugin/hparams/session_groups", body={"experimentName": "", **columns})[
            "sessionGroups"
        ]
        assert group["name"] == run_name
        assert group["hparams"] == {"lr": 0.1, "amp": True, "opt": "adam"}
        values = {metric["name"]["tag"]: metric["value"] for metric in group["metricValues"]}
        assert values["val/loss"] == float32(1 / 5)
        assert group["sessions"][0]["endTimeSecs"] == AT + 9
