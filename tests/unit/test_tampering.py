"""Installed files beside what was installed: a change is named, and what was not touched is silent."""

import base64
import hashlib

import pytest

from mlobs.repro.packages import installed
from mlobs.repro.tampering import verify_files


def site(folder, **packages):
    """A folder with packages of one file each; the value is the file's name and content."""
    for name, (file, content) in packages.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8"
        )
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        line = f"{file},sha256={digest},{len(content)}\n"
        (info / "RECORD").write_text(line + f"{name}-1.0.dist-info/RECORD,,\nx.pyc,,\n", encoding="utf-8")
    return [str(folder)]


def test_what_was_installed_and_not_touched_is_silent():
    assert verify_files(["msgspec", "Blake3"]) == []


def test_a_changed_file_is_named_though_its_size_is_the_same(tmp_path):
    path = site(tmp_path, tiny=("tiny.py", b"VALUE = 1"))
    (tmp_path / "tiny.py").write_bytes(b"VALUE = 2")

    assert verify_files(sys_path=path) == [("tiny", tmp_path / "tiny.py", "changed")]


def test_a_longer_file_is_changed_too(tmp_path):
    path = site(tmp_path, tiny=("tiny.py", b"VALUE = 1"))
    (tmp_path / "tiny.py").write_bytes(b"VALUE = 100")

    assert [one.reason for one in verify_files(sys_path=path)] == ["changed"]


def test_a_file_that_is_gone_is_named(tmp_path):
    path = site(tmp_path, tiny=("tiny/core.py", b"VALUE = 1"))
    (tmp_path / "tiny" / "core.py").unlink()

    assert verify_files(sys_path=path) == [("tiny", tmp_path / "tiny" / "core.py", "absent")]


def test_a_change_that_the_record_of_the_package_does_not_see_is_seen_here(tmp_path):
    path = site(tmp_path, tiny=("tiny.py", b"VALUE = 1"))
    before = installed(path)
    (tmp_path / "tiny.py").write_bytes(b"VALUE = 2")

    assert installed(path) == before
    assert verify_files(sys_path=path)


def test_only_the_packages_that_were_asked_for_are_looked_at(tmp_path):
    path = site(tmp_path, one=("one.py", b"1"), two=("two.py", b"2"))
    (tmp_path / "one.py").write_bytes(b"x")
    (tmp_path / "two.py").write_bytes(b"x")

    assert [one.package for one in verify_files(["Two"], sys_path=path)] == ["two"]


def test_a_file_of_two_packages_is_right_if_it_is_that_of_one(tmp_path):
    path = site(tmp_path, one=("shared/__init__.py", b"first"), two=("shared/__init__.py", b"second"))

    assert verify_files(sys_path=path) == []
    assert verify_files(["one"], sys_path=path) == []


def test_a_file_of_two_packages_that_is_that_of_neither_is_named_for_both(tmp_path):
    path = site(tmp_path, one=("shared/__init__.py", b"first"), two=("shared/__init__.py", b"second"))
    (tmp_path / "shared" / "__init__.py").write_bytes(b"third")

    assert [one.package for one in verify_files(sys_path=path)] == ["one", "two"]


@pytest.mark.parametrize("hash_", ["rot13=abc", "nonsense"])
def test_a_hash_that_nobody_knows_is_no_verdict(tmp_path, hash_):
    path = site(tmp_path, tiny=("tiny.py", b"VALUE = 1"))
    (tmp_path / "tiny-1.0.dist-info" / "RECORD").write_text(f"tiny.py,{hash_},9\n", encoding="utf-8")

    [found] = verify_files(sys_path=path)

    assert found.reason.startswith("not verified")
