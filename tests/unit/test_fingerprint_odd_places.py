"""Fingerprints of folders and URIs that are easily misread."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from mlobs.errors import UsageError
from mlobs.repro.fingerprint import StatCache, fingerprint

DEPTH = 1_100  # more than Python's stack


@pytest.fixture
def deep(tmp_path, monkeypatch):
    """A folder with one file far down; it is taken down again, since `shutil.rmtree` recurses."""
    monkeypatch.chdir(tmp_path)
    for _ in range(DEPTH):  # by relative steps, as some systems limit whole paths
        os.mkdir("d")  # noqa: PTH102 - a step
        os.chdir("d")
    Path("file").write_text("x", encoding="utf-8")
    yield tmp_path
    Path("file").unlink()
    for _ in range(DEPTH):
        os.chdir("..")
        os.rmdir("d")  # noqa: PTH106 - a step


@pytest.mark.skipif(sys.platform == "win32", reason="paths of 260 characters")
def test_a_folder_nested_deeper_than_the_stack_is_read(deep):
    (name,) = fingerprint(deep).files

    assert name == "d/" * DEPTH + "file"


@pytest.mark.parametrize("place", ["", "x" * 5_000])
def test_a_path_that_cannot_be_is_refused(place):
    with pytest.raises(UsageError, match="there is no file or folder"):
        fingerprint(place)


def test_paths_in_a_list_use_the_cache(tmp_path):
    file = tmp_path / "data.bin"
    file.write_bytes(b"x")
    cache = StatCache(tmp_path / "cache.sqlite", now_ns=lambda: file.stat().st_ctime_ns + 10**10)

    fingerprint([file, np.ones(1)], cache=cache)

    assert cache.known(str(file.resolve()))


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("s3://bucket//twice//file", "name:s3://bucket//twice//file"),
        ("s3://bucket//file?versionId=abc#part", "pin:s3://bucket//file?versionId=abc#part"),
        ("s3://bucket/file?versionId=null", "name:s3://bucket/file?versionId=null"),
        ("delta:s3://bucket/versions/3", "name:delta:s3://bucket/versions/3"),
        ("azureml:sales:3", "pin:azureml:sales:3"),
    ],
)
def test_a_uri_is_kept_as_it_is_and_pinned_only_by_what_cannot_change(uri, text):
    assert fingerprint(uri).text == text


def test_a_uri_that_is_none_is_refused():
    with pytest.raises(UsageError, match="is no URI"):
        fingerprint("s3://[bucket/file")
