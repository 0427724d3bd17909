"""Texts, dicts and files: what was there at the call is what the run holds, inside the run."""

import os
import shutil
import time

import numpy as np
import pytest

import mlobs
from mlobs.journal.blobs import INLINE_BYTES, keep_file
from mlobs.payloads import files
from mlobs.progress import SHOW_AFTER_S

LARGE = os.urandom(INLINE_BYTES * 3)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with mlobs.Tracker("unit", store=tmp_path / "store").start_run() as run:
        yield run


def artifacts(run):
    """Content by (path, step)."""
    kept = mlobs.load_run(run.id, store=run._opened.folder.store).artifacts
    return {(one.path, one.step): one.read_bytes() for one in kept}


def test_a_file_is_kept_as_it_was_at_the_call(run, tmp_path):
    for name, content in (("small.bin", b"small"), ("large.bin", LARGE), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
        run.log_artifact(name)
        (tmp_path / name).write_bytes(b"changed")
    (tmp_path / "large.bin").unlink()

    assert artifacts(run) == {
        ("small.bin", None): b"small",
        ("large.bin", None): LARGE,
        ("empty", None): b"",
    }


def test_a_folder_is_kept_with_all_its_files(run, tmp_path):
    (tmp_path / "outputs" / "deep").mkdir(parents=True)
    (tmp_path / "outputs" / "a.txt").write_bytes(b"a")
    (tmp_path / "outputs" / "deep" / "b.bin").write_bytes(LARGE)
    run.log_artifacts("outputs", artifact_path="results/one")
    run.log_artifacts(tmp_path / "outputs")
    run.log_artifact("outputs", "whole", step=np.int64(3))
    shutil.rmtree("outputs")

    assert artifacts(run) == {
        ("results/one/a.txt", None): b"a",
        ("results/one/deep/b.bin", None): LARGE,
        ("a.txt", None): b"a",
        ("deep/b.bin", None): LARGE,
        ("whole/outputs/a.txt", 3): b"a",
        ("whole/outputs/deep/b.bin", 3): LARGE,
    }


def test_texts_and_dicts_are_files_with_a_suffix(run):
    run.log_text("notes", "all is well", step=np.int32(2))
    run.log_text("page.html", "<p>")
    run.log_text("epoch 1.5", "half")
    run.log_dict("config", {"lr": np.float32(0.5), "nan": float("nan"), "deep": {"er": [1, None]}})

    kept = artifacts(run)
    assert kept["notes.txt", 2] == b"all is well"
    assert kept["page.html", None] == b"<p>"
    assert kept["epoch 1.5.txt", None] == b"half"
    assert mlobs.load_run(run.id, store=run._opened.folder.store).artifacts[-1].path == "config.json"
    assert (
        kept["config.json", None].split()
        == b'{ "lr": 0.5, "nan": "NaN", "deep": { "er": [ 1, null ] } }'.split()
    )


def test_the_latest_of_a_path_counts(run):
    run.log_text("notes", "first")
    run.log_text("notes", "at step 1", step=1)
    run.log_text("notes", "last")

    assert artifacts(run) == {("notes.txt", None): b"last", ("notes.txt", 1): b"at step 1"}


@pytest.mark.parametrize(
    "path", ["../up", "/etc/passwd", "a/../../up", "..", ".", "", "..\\up", None, 3], ids=repr
)
def test_a_path_that_leads_outside_is_refused(run, tmp_path, path, caplog):
    (tmp_path / "folder").mkdir()
    for file in ("file", "folder/file"):
        (tmp_path / file).write_bytes(b"x")
    run.log_text(path, "text")
    run.log_dict(path, {})
    if path not in ("", ".", None, 3):  # these are folders of the run, or none
        run.log_artifact("file", path)
        run.log_artifacts(tmp_path / "folder", path)

    assert all("was not recorded: artifact path" in message for message in caplog.messages)
    assert artifacts(run) == {}


def test_what_is_not_there_or_never_ends_is_said(run, tmp_path, caplog):
    os.mkfifo(tmp_path / "pipe")
    run.log_artifact("missing.bin")
    run.log_artifact("pipe")
    run.log_artifact(3)
    run.log_artifacts("missing")

    said = " ".join(caplog.messages)
    assert f"there is no missing.bin (looked from {tmp_path})" in said
    assert "pipe is neither a file nor a folder" in said
    assert "expected a path" in said
    assert artifacts(run) == {}


def test_a_file_that_cannot_be_read_does_not_cost_its_neighbours(run, tmp_path, caplog):
    folder = tmp_path / "outputs"
    folder.mkdir()
    (folder / "a.txt").write_bytes(b"a")
    (folder / "b.txt").symlink_to("/proc/self/mem")  # a file whose reading fails, also for root
    (folder / "c.txt").write_bytes(b"c")

    run.log_artifacts(folder)

    assert artifacts(run) == {("a.txt", None): b"a", ("c.txt", None): b"c"}
    (message,) = caplog.messages
    assert "b.txt" in message


def test_a_name_that_is_not_unicode_is_kept_readable(run, tmp_path):
    name = os.fsdecode(b"caf\xe9.bin")
    (tmp_path / name).write_bytes(b"x")

    run.log_artifact(name)

    assert artifacts(run) == {("caf/udce9.bin", None): b"x"}


def test_the_store_is_never_copied_into_itself(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.bin").write_bytes(b"model")
    (tmp_path / "store.txt").write_bytes(b"text")
    with mlobs.Tracker("unit", store=tmp_path / "store").start_run() as run:
        run.log_text("notes", "kept")
        run.log_artifacts(".")
        run.log_artifacts(".", "again")
        run.log_artifact(tmp_path, "whole")
        run.log_artifacts("store", "record")

    whole = f"whole/{tmp_path.name}"
    assert {path for path, _ in artifacts(run)} == {
        "notes.txt",
        *("model.bin", "store.txt", "again/model.bin", "again/store.txt"),
        *(f"{whole}/model.bin", f"{whole}/store.txt"),
    }
    assert ["leaves out store: it is the store" in text for text in caplog.messages] == [True, False, True]
    assert mlobs.load_run(run.id, store=tmp_path / "store").end.unrecorded == 0


def test_what_is_no_file_in_a_folder_is_said(tmp_path, caplog):
    folder = tmp_path / "outputs"
    folder.mkdir()
    (folder / "whole.txt").write_text("x")
    (folder / "broken").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe")
    with mlobs.Tracker("e", store=tmp_path / "store").start_run() as run:
        run.log_artifacts(folder)

    assert [one.path for one in mlobs.load_run(run.id, store=tmp_path / "store").artifacts] == ["whole.txt"]
    assert "there is no" in caplog.text
    assert "neither a file nor a folder" in caplog.text


@pytest.mark.parametrize("pause_s", [0.0, SHOW_AFTER_S])
def test_a_copy_that_takes_long_shows_how_far_it_is(tmp_path, monkeypatch, pause_s):
    """The pause stands for a slow disk: portions come from a real copy."""
    pty = pytest.importorskip("pty")
    (tmp_path / "large.bin").write_bytes(b"x" * 10)
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    monkeypatch.setenv("TERM", "xterm")
    with open(theirs, "w", encoding="utf-8") as terminal:  # noqa: PTH123 - of a descriptor
        monkeypatch.setattr("sys.stderr", terminal)
        with files.copying([(tmp_path / "large.bin", "large.bin")]) as copied:
            time.sleep(pause_s)
            copied(5)
            copied(5)
        try:
            shown = os.read(ours, 1 << 16).decode("utf-8", "ignore")
        except BlockingIOError:
            shown = ""
    os.close(ours)

    assert ("mlobs: keeping files" in shown) is (pause_s > 0)


def test_each_portion_of_a_copy_is_told(tmp_path):
    content, portions = os.urandom(1000) * 200_000, []
    (tmp_path / "large.bin").write_bytes(content)

    assert keep_file(tmp_path / "blobs" / "w-0", tmp_path / "large.bin", portions.append) == len(content)

    assert len(portions) > 1
    assert sum(portions) == len(content)
    assert (tmp_path / "blobs" / "w-0").read_bytes() == content


@pytest.mark.parametrize("store", ["store", ".mlobs"])
def test_a_pattern_never_copies_the_store_into_itself(tmp_path, monkeypatch, caplog, store):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.bin").write_bytes(LARGE)
    with mlobs.Tracker("unit", store=tmp_path / store).start_run() as run:
        for _ in range(3):
            run.log_artifacts("**/*")

    assert set(artifacts(run)) == {("model.bin", None)}
    assert len([text for text in caplog.messages if "it is the store" in text]) == 1


def test_a_pattern_may_be_a_path(run, tmp_path):
    for name in ("a.txt", "b.bin"):
        (tmp_path / name).write_bytes(b"x")
    run.log_artifacts(tmp_path / "*.txt")

    assert set(artifacts(run)) == {("a.txt", None)}


def test_calls_whose_names_mean_one_artifact_are_told(run, caplog):
    run.log_table("x", [{"a": 1}])
    run.log_table("x", [{"a": 2}])
    assert caplog.messages == []

    run.log_dict("x", {"a": 1})
    run.log_dict("x", {"a": 2})
    run.log_image("picture", np.zeros((4, 4)), step=1)
    run.log_matrix("picture", np.zeros((4, 4)), step=2)

    (message,) = caplog.messages
    assert "log_dict('x') takes the place of what log_table recorded as 'x.json'" in message


def test_a_run_that_is_not_recorded_does_not_do_the_work(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))

    class Costly:
        def __getattr__(self, name):
            raise AssertionError(f"somebody asked for {name}")

    def save(model, path):
        raise AssertionError(f"{model} was saved as {path}")

    tracker = mlobs.Tracker("unit", store=tmp_path / "store", mode="disabled", on_error="raise")
    with tracker.start_run() as run:
        run.log_figure("figure", Costly())
        run.log_image("image", Costly())
        run.log_table("table", Costly())
        run.log_histogram("values", Costly())
        run.log_model("model", Costly(), serializer=save)
        run.log_artifact(tmp_path / "gone")

    assert list(tmp_path.iterdir()) == []


def test_a_model_is_moved_into_the_store_and_what_it_links_to_is_copied(run, tmp_path):
    (tmp_path / "weights.bin").write_bytes(LARGE)
    seen = {}

    def save(model, path):
        path.mkdir()
        (path / "own.bin").write_bytes(model)
        (path / "own.bin").chmod(0o644)
        seen["inode"] = (path / "own.bin").stat().st_ino
        (path / "soft.bin").symlink_to(tmp_path / "weights.bin")
        (path / "hard.bin").hardlink_to(tmp_path / "weights.bin")

    run.log_model("m", LARGE, serializer=save)
    (tmp_path / "weights.bin").write_bytes(b"changed")

    assert artifacts(run) == {(f"m/model/{name}.bin", None): LARGE for name in ("own", "soft", "hard")}
    kept = {
        one.path: one.file.stat() for one in mlobs.load_run(run.id, store=run._opened.folder.store).artifacts
    }
    assert kept["m/model/own.bin"].st_ino == seen["inode"]
    assert len({about.st_mode for about in kept.values()}) == 1


def test_a_model_needs_no_room_elsewhere(run, tmp_path, monkeypatch):
    """Where `/tmp` lies in memory, or is small, a large model would not fit."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    run.log_model("model", LARGE, serializer=lambda model, path: path.write_bytes(model))

    assert artifacts(run) == {("model/model", None): LARGE}
    assert not [path for path in run._opened.folder.path.iterdir() if path.name.startswith("saving")]


def test_files_that_an_earlier_model_leaves_behind_are_told(run, caplog):
    def save(model, path):
        if model is None:
            path.write_bytes(b"x")
        else:
            path.mkdir()
            for name in model:
                (path / name).write_bytes(b"x")

    for step in (1, 2):
        run.log_model("m", ["a.bin", "b.bin"], step=step, serializer=save)
        run.log_model("m", ["a.bin", "b.bin"], step=step, serializer=save)
    assert caplog.messages == []

    run.log_model("m", None, step=2, serializer=save)

    (message,) = caplog.messages
    assert "replaces an earlier model whose file m/model/a.bin and 1 more stays" in message
