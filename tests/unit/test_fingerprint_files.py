"""Fingerprints of files, folders and URIs: what counts, what a cache is trusted with, what is masked."""

import json
import multiprocessing
import os
import subprocess
import sys
import time

import pytest
from blake3 import blake3

from mlobs.errors import UsageError
from mlobs.repro.fingerprint import StatCache, diff_fingerprints, fingerprint
from mlobs.repro.stat_cache import RACY_NS
from mlobs.repro.trees import fingerprint_of_path

FORKED = """
import os, sys
from mlobs.repro.fingerprint import fingerprint
before = fingerprint(sys.argv[1])
child = os.fork()
if child == 0:
    os._exit(fingerprint(sys.argv[1]) != before)
sys.exit(os.waitpid(child, 0)[1])
"""
LATER_NS = 10 * RACY_NS


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "data"
    (made / "sub").mkdir(parents=True)
    (made / "a.csv").write_bytes(b"1,2\n")
    (made / "sub" / "b.csv").write_bytes(b"3,4\n")
    return made


def cache_at(path, *, later_ns=LATER_NS):
    """A cache whose clock is so late that no file of now is young."""
    return StatCache(path, now_ns=lambda: time.time_ns() + later_ns)


# What counts


def test_a_file_has_the_digest_that_b3sum_prints(folder):
    assert fingerprint(folder / "a.csv").text == "b3:" + blake3(b"1,2\n").hexdigest()


def test_a_large_file_has_the_same_digest_by_threads(tmp_path):
    content = os.urandom(3 << 20)
    (tmp_path / "large").write_bytes(content)

    assert fingerprint(tmp_path / "large").text == f"b3:{blake3(content).hexdigest()}"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_hashes_large_files_too(tmp_path):
    (tmp_path / "large").write_bytes(bytes(3 << 20))

    done = subprocess.run([sys.executable, "-c", FORKED, tmp_path / "large"], check=False, timeout=20)
    assert done.returncode == 0


def test_a_folder_has_the_frozen_digest(folder):
    found = fingerprint(folder)

    assert found.text == "tree1:27c889ec02c507f606337f2dd1e7b816a70eb2367036d112a6cb87b321bcc97a"
    assert found.size_bytes == 8
    assert found.files == {
        "a.csv": blake3(b"1,2\n").hexdigest(),
        "sub/b.csv": blake3(b"3,4\n").hexdigest(),
    }


def test_times_modes_and_empty_folders_do_not_count(folder):
    before = fingerprint(folder)
    os.utime(folder / "a.csv", (0, 0))
    (folder / "a.csv").chmod(0o755)
    (folder / "empty").mkdir()

    assert fingerprint(folder).text == before.text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda at: (at / "a.csv").write_bytes(b"1,3\n"), ["file a.csv changed"]),
        (lambda at: (at / "c.csv").touch(), ["file c.csv is new"]),
        (lambda at: (at / "a.csv").rename(at / "d.csv"), ["file d.csv is new", "file a.csv is gone"]),
    ],
)
def test_what_changed_in_a_folder_is_said(folder, change, said):
    before = fingerprint(folder)
    change(folder)

    assert diff_fingerprints(before, fingerprint(folder)) == said


def test_a_link_counts_as_what_it_leads_to(folder, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "a.csv").symlink_to(folder / "a.csv")
    (linked / "sub").symlink_to(folder / "sub", target_is_directory=True)

    assert fingerprint(linked).text == fingerprint(folder).text


def test_a_link_that_leads_nowhere_or_around_ends(folder):
    (folder / "loose").symlink_to("nowhere")
    (folder / "sub" / "around").symlink_to("..", target_is_directory=True)

    assert set(fingerprint(folder).files) == {"a.csv", "sub/b.csv", "loose", "sub/around"}


@pytest.mark.skipif(sys.platform != "linux", reason="names there are Unicode")
def test_names_need_not_be_unicode(folder):
    before = fingerprint(folder)
    (folder / os.fsdecode(b"caf\xe9")).touch()

    found = fingerprint(folder)
    assert diff_fingerprints(before, found) == ["file caf\\xe9 is new"]
    json.dumps(found.files).encode()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_cannot_be_read_is_named(folder):
    (folder / "a.csv").chmod(0)

    with pytest.raises(UsageError, match=r"a\.csv cannot be read: Permission denied"):
        fingerprint(folder)


def test_a_pipe_is_no_data(folder):
    before = fingerprint(folder)
    os.mkfifo(folder / "pipe")

    assert fingerprint(folder).text == before.text
    with pytest.raises(UsageError, match="neither a file nor a folder"):
        fingerprint(folder / "pipe")


def test_beyond_the_budget_sizes_and_times_stand_for_the_content(folder):
    weak = fingerprint(folder, budget_s=0)
    os.utime(folder / "a.csv", (0, 0))

    assert (weak.strength, weak.scheme) == ("stat", "stat1")
    assert fingerprint(folder, strength="stat").text != weak.text


def test_a_folder_of_too_many_files_to_look_at_is_its_name(tmp_path):
    for number in range(1_001):
        (tmp_path / str(number)).touch()

    found = fingerprint(tmp_path, budget_s=0)
    assert (found.text, found.strength) == (f"name:{tmp_path}", "name")
    assert fingerprint(tmp_path, budget_s=30).strength == "content"


# The cache


def test_an_unchanged_file_is_not_read_again(folder, tmp_path):
    cache = cache_at(tmp_path / "cache")
    first = fingerprint(folder, cache=cache)

    known = cache.known(str(folder))
    assert {name.decode() for name in known} == {"a.csv", "sub/b.csv"}
    assert fingerprint(folder, cache=cache, budget_s=0) == first  # nothing is left to read


def test_a_change_that_restores_size_and_time_is_seen(folder, tmp_path):
    cache = cache_at(tmp_path / "cache")
    before = fingerprint(folder, cache=cache)
    about = (folder / "a.csv").stat()
    (folder / "a.csv").write_bytes(b"9,9\n")
    os.utime(folder / "a.csv", ns=(about.st_atime_ns, about.st_mtime_ns))

    assert diff_fingerprints(before, fingerprint(folder, cache=cache)) == ["file a.csv changed"]


def test_a_file_that_is_as_young_as_its_reading_is_not_trusted(folder, tmp_path):
    cache = cache_at(tmp_path / "cache", later_ns=0)
    fingerprint(folder, cache=cache)

    assert cache.known(str(folder)) == {}


@pytest.mark.parametrize("content", [b"no database at all", b"SQLite format 3\x00" + b"\xff" * 5000, b""])
def test_a_broken_cache_is_an_empty_one(folder, tmp_path, content):
    (tmp_path / "cache").write_bytes(content)
    cache = cache_at(tmp_path / "cache")

    assert fingerprint(folder, cache=cache) == fingerprint(folder)
    assert len(cache.known(str(folder))) == 2


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(folder, tmp_path):
    (tmp_path / "file").touch()

    assert fingerprint(folder, cache=cache_at(tmp_path / "file" / "cache")) == fingerprint(folder)


def _use(cache_path, folder, texts):
    texts.put([fingerprint(folder, cache=cache_at(cache_path)).text for _ in range(20)])


def test_processes_share_a_cache(folder, tmp_path):
    context = multiprocessing.get_context("spawn")
    texts = context.Queue()
    users = [context.Process(target=_use, args=(tmp_path / "cache", folder, texts)) for _ in range(3)]
    for user in users:
        user.start()
    found = {text for _ in users for text in texts.get(timeout=30)}
    for user in users:
        user.join()

    assert found == {fingerprint(folder).text}
    assert len(cache_at(tmp_path / "cache").known(str(folder))) == 2


def test_a_file_that_changes_while_it_is_read_is_noted_and_not_kept(folder, tmp_path):
    """The clock of the cache is asked between the look at the files and the reading."""

    def now_ns():
        (folder / "a.csv").write_bytes(b"1,2,3\n")
        return (folder / "a.csv").stat().st_mtime_ns + LATER_NS

    cache = StatCache(tmp_path / "cache", now_ns=now_ns)
    found = fingerprint_of_path(folder, cache=cache)

    assert found.notes == {"changed while read": "a.csv"}
    assert set(cache.known(str(folder))) == {b"sub/b.csv"}


# Elsewhere


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("s3://bucket/key?versionId=3L4k", "pin:s3://bucket/key?versionId=3L4k"),
        ("gs://bucket/key#1360887697105000", "pin:gs://bucket/key#1360887697105000"),
        (f"lakefs://repo/{'a1' * 32}/path", f"pin:lakefs://repo/{'a1' * 32}/path"),
        (f"hf://datasets/org/name@{'b2' * 20}/train", f"pin:hf://datasets/org/name@{'b2' * 20}/train"),
        ("azureml:titanic:3", "pin:azureml:titanic:3"),
        ("azureml://locations/w/data/titanic/versions/3", "pin:azureml://locations/w/data/titanic/versions/3"),
        ("azureml:titanic@latest", "name:azureml:titanic@latest"),
        ("s3://bucket/key", "name:s3://bucket/key"),
        ("lakefs://repo/main/path", "name:lakefs://repo/main/path"),
        ("abfss://container@account.dfs.core.windows.net/x", "name:abfss://container@account.dfs.core.windows.net/x"),
        ("https://user:secret@host/data?page=2", "name:https://host/data?page=2"),
        (
            "https://a.blob.core.windows.net/c/f.csv?snapshot=2024-01-01T00:00:00Z&sv=2022-11-02&sp=r&sig=abc%3D",
            "pin:https://a.blob.core.windows.net/c/f.csv?snapshot=2024-01-01T00%3A00%3A00Z",
        ),
        ("https://b.s3.amazonaws.com/k?X-Amz-Signature=ff&X-Amz-Date=20240101", "name:https://b.s3.amazonaws.com/k"),
    ],
)  # fmt: skip
def test_a_uri_is_pinned_by_its_version_alone_and_without_its_secrets(uri, text):
    found = fingerprint(uri)

    assert found.text == text
    assert found.strength == ("pinned" if text.startswith("pin:") else "name")


def delta(folder, *, table_id, versions):
    """A log as the protocol describes it, by hand."""
    log = folder / "_delta_log"
    log.mkdir(parents=True)
    for version in range(versions):
        lines = [{"commitInfo": {"operation": "WRITE"}}, {"add": {"path": f"part-{version}.parquet"}}]
        if version == 0:
            lines.append({"metaData": {"id": table_id, "format": {"provider": "parquet"}}})
        (log / f"{version:020}.json").write_text("\n".join(map(json.dumps, lines)))
    return folder


def test_a_delta_table_is_pinned_by_its_id_and_version(tmp_path):
    table = delta(tmp_path / "table", table_id="7d3f", versions=3)

    assert fingerprint(table).text == fingerprint(f"delta:{table}").text == "pin:delta:7d3f@2"
    assert fingerprint(f"delta:{table}@1").text == "pin:delta:7d3f@1"
    assert fingerprint(table, strength="content").scheme == "tree1"
    with pytest.raises(UsageError, match="versions 0 to 2, not 9"):
        fingerprint(f"delta:{table}@9")
    with pytest.raises(UsageError, match="no Delta table"):
        fingerprint(f"delta:{tmp_path}")
