"""Restored code is the recorded tree, or there is an error that says what is missing."""

import shutil
from pathlib import Path

import msgspec
import pytest
from git_repositories import captured, commit, git, new_repository, on_disk, restored, state_of, write

from mlobs.errors import UsageError
from mlobs.repro.code import CodeRoot
from mlobs.repro.code_restore import restore_code

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture(autouse=True)
def _own_environment(tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "home" / ".gitconfig"))


@pytest.fixture
def project(tmp_path):
    """A repository with an edit, a new file and a link."""
    root = new_repository(
        tmp_path / "project", {"a.py": "a = 1\n" * 50, "sub/b.py": "b = 1\n", "run.sh": "#!/bin/sh\n"}
    )
    write(root, {"a.py": "a = 1\n" * 50 + "a = 2\n", "new.py": "n = 1\n"})
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("sub/b.py")
    return root


def test_the_repository_where_the_code_was_is_read_and_not_written(tmp_path, project):
    snapshot = captured(tmp_path, project)
    before = state_of(project)

    report = restore_code(snapshot.roots, lambda root: snapshot.packs[root.tree], tmp_path / "restored")

    assert state_of(project) == before
    assert on_disk(tmp_path / "restored") == on_disk(project)
    assert report.moved == {str(project): tmp_path / "restored"}
    assert report.sources == {str(project): str(project / ".git")}
    assert report.files == 5
    assert not (tmp_path / "restored" / ".git").exists()


def test_without_that_repository_the_base_is_fetched_from_a_remote(tmp_path, project):
    snapshot = captured(tmp_path, project)
    expected = on_disk(project)
    shutil.rmtree(project)

    report = restore_code(
        snapshot.roots, lambda root: snapshot.packs[root.tree].read_bytes(), tmp_path / "restored"
    )

    assert on_disk(tmp_path / "restored") == expected
    assert report.sources == {str(project): str(tmp_path / "project.remote")}


def test_a_remote_that_gives_no_commit_by_its_id_is_fetched_whole(tmp_path, project):
    snapshot = captured(tmp_path, project)
    expected = on_disk(project)
    write(project, {"later.py": "l = 1\n"})
    commit(project)
    git(project, "push", "-q", "origin", "main")
    git(tmp_path / "project.remote", "config", "uploadpack.allowAnySHA1InWant", "false")
    (tmp_path / "home" / ".gitconfig").write_text("[protocol]\n\tversion = 0\n")
    shutil.rmtree(project)

    assert on_disk(restored(tmp_path, snapshot)) == expected


def test_a_clone_that_is_named_serves_too(tmp_path, project):
    snapshot = captured(tmp_path, project)
    expected = on_disk(project)
    shutil.move(project, tmp_path / "moved")
    shutil.rmtree(tmp_path / "project.remote")

    assert on_disk(restored(tmp_path, snapshot, sources=[tmp_path / "moved"])) == expected


def test_a_base_that_is_nowhere_is_an_error_that_names_it(tmp_path, project):
    snapshot = captured(tmp_path, project)
    shutil.rmtree(project)
    shutil.rmtree(tmp_path / "project.remote")

    with pytest.raises(UsageError, match=rf"{snapshot.roots[0].base}.*project\.remote.*sources="):
        restored(tmp_path, snapshot)


def test_a_folder_that_is_not_empty_is_refused(tmp_path, project):
    snapshot = captured(tmp_path, project)

    with pytest.raises(UsageError, match="not empty"):
        restored(tmp_path, snapshot, "project")


@pytest.mark.parametrize("kind", ["git", "plain"])
def test_a_damaged_pack_is_an_error(tmp_path, project, kind):
    if kind == "plain":
        shutil.rmtree(project / ".git")
    snapshot = captured(tmp_path, project)
    content = bytearray(snapshot.packs[snapshot.roots[0].tree].read_bytes())
    content[len(content) // 2] ^= 0xFF

    with pytest.raises(UsageError, match=r"damaged|the record says"):
        restore_code(snapshot.roots, lambda _root: bytes(content), tmp_path / "restored")


def test_the_pack_of_another_tree_is_an_error(tmp_path, project):
    shutil.rmtree(project / ".git")
    snapshot = captured(tmp_path, project)
    write(project, {"new.py": "n = 2\n"})
    other = captured(tmp_path, project)

    with pytest.raises(UsageError, match="the record says"):
        restore_code(snapshot.roots, lambda _root: other.packs[other.roots[0].tree], tmp_path / "restored")


@pytest.mark.parametrize("place", ["../outside", "/outside", "a/../../b", "x/.git"])
def test_a_record_cannot_put_files_outside_of_the_folder(tmp_path, place):
    root = CodeRoot(path="/somewhere", place=place, tree="0" * 40, kind="plain")

    with pytest.raises(UsageError, match="outside"):
        restore_code([root], lambda _root: b"", tmp_path / "restored")


def test_a_record_cannot_start_a_command_by_its_remote(tmp_path, project):
    snapshot = captured(tmp_path, project)
    shutil.rmtree(project)
    marker = tmp_path / "started"
    evil = {"origin": f"ext::sh -c 'touch {marker}'", "other": f"--upload-pack=touch {marker}"}
    roots = [msgspec.structs.replace(root, remotes=evil) for root in snapshot.roots]

    with pytest.raises(UsageError, match="could not be fetched"):
        restore_code(roots, lambda root: snapshot.packs[root.tree], tmp_path / "restored")
    assert not marker.exists()


def test_records_survive_being_stored(tmp_path, project):
    """Names that are no text, too."""
    Path(str(project) + "/caf\udce9.env").write_text("A=1")
    roots = captured(tmp_path, project).roots

    assert msgspec.json.decode(msgspec.json.encode(roots), type=tuple[CodeRoot, ...]) == roots
    assert "caf\\xe9.env" in {one.path for one in roots[0].excluded}
