"""The code of a run is captured exactly, whatever the repository and the configuration are like."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from git_repositories import captured, commit, git, new_repository, on_disk, restored, state_of, write

from mlobs.repro.code import CodeUncaptured, Limits, Outputs, snapshot_code
from mlobs.repro.git import GitFailed
from mlobs.repro.git import git as run_git

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

COMMITTED = {
    "train.py": "import model\nprint('one')\n",
    "model.py": "WIDTH = 3\n",
    "both.py": "a = 1\n",
    "weights.bin": bytes(range(256)) * 8,
    "latin.txt": "caf\xe9\n".encode("latin-1"),
    "dos.txt": b"one\r\ntwo\r\n",
    "unix.txt": b"one\ntwo\n",
    "run.sh": "#!/bin/sh\n",
    "gone.py": "x = 1\n",
    "place/inner.py": "y = 1\n",
    "a folder/with spaces.py": "z = 1\n",
}


@pytest.fixture(autouse=True)
def _own_environment(tmp_path, monkeypatch):
    """Of this machine's configuration nothing is read."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / ".gitconfig"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


@pytest.fixture
def repository(tmp_path):
    return new_repository(tmp_path / "project", COMMITTED)


def make_dirty(folder):
    """Every kind of change at once."""
    write(folder, {"both.py": "a = 2\n"})
    git(folder, "add", "both.py")
    write(
        folder,
        {
            "both.py": "a = 3\n",
            "weights.bin": bytes(range(255, -1, -1)) * 8,
            "latin.txt": "caf\xe9 noir\n".encode("latin-1"),
            "dos.txt": b"one\r\ntwo\nthree\r\n",
            "unix.txt": b"one\r\ntwo\r\n",
            "model.py": "WIDTH = 4",
            "new/module.py": "n = 1\r\n",
            "staged.py": "s = 1\n",
            "empty.py": b"",
        },
    )
    git(folder, "add", "staged.py")
    (folder / "run.sh").chmod(0o755)
    (folder / "gone.py").unlink()
    shutil.rmtree(folder / "place")
    write(folder, {"place": "now a file\n"})
    (folder / "link").symlink_to("new/module.py")
    (folder / "dangling").symlink_to("nowhere")
    for name in (b"caf\xe9.py", b"two\nlines.py", b'"quoted".py', b"-dash.py", b":(top)magic.py"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_text("odd = 1\n")


def filter_of(tmp_path, name, command):
    script = tmp_path / name
    script.write_text(f"#!/bin/sh\n: > '{tmp_path}/started-{name}'\n{command}\n")
    script.chmod(0o755)
    return str(script)


HOSTILE = [
    "diff.noprefix=true",
    "diff.mnemonicPrefix=true",
    "color.ui=always",
    "color.diff=always",
    "core.autocrlf=true",
    "core.autocrlf=input",
    "core.eol=crlf",
    "core.safecrlf=true",
    "core.quotepath=true",
    "status.showUntrackedFiles=no",
    "commit.gpgsign=true",
    "diff.external=SCRIPT",
    "core.fsmonitor=SCRIPT",
    "core.hooksPath=HOOKS",
    "filter.slow.clean=SCRIPT",
    "diff.slow.textconv=SCRIPT",
    "core.attributesFile=ATTRIBUTES",
    "core.pager=SCRIPT",
    "core.alternateRefsCommand=SCRIPT",
    "core.splitIndex=true",
    "index.version=4",
    "core.untrackedCache=true",
    "feature.manyFiles=true",
    "submodule.recurse=true",
    "core.preloadIndex=false",
]


@pytest.mark.parametrize("setting", HOSTILE)
def test_no_configuration_changes_what_is_captured(tmp_path, repository, setting):
    script = filter_of(tmp_path, "script", "sleep 100")
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("pre-commit", "post-index-change", "post-checkout", "reference-transaction"):
        shutil.copy(script, hooks / name)
    attributes = tmp_path / "attributes"
    attributes.write_text("*.py text eol=crlf\n")
    (repository / ".git" / "info" / "attributes").write_text("*.bin filter=slow diff=slow\n")
    make_dirty(repository)
    name, _, value = setting.partition("=")
    for word, path in (("SCRIPT", script), ("HOOKS", hooks), ("ATTRIBUTES", attributes)):
        value = value.replace(word, str(path))
    git(repository, "config", name, value)
    if name in ("core.splitIndex", "index.version", "core.untrackedCache"):
        git(
            repository,
            "update-index",
            *{"core.splitIndex": ["--split-index"], "index.version": ["--index-version", "4"]}.get(
                name, ["--untracked-cache"]
            ),
        )
    before = state_of(repository / ".git")

    snapshot = captured(tmp_path, repository)

    assert state_of(repository / ".git") == before
    assert not (tmp_path / "started-script").exists()
    assert not snapshot.roots[0].excluded
    assert on_disk(restored(tmp_path, snapshot)) == on_disk(repository)
    assert "+WIDTH = 4\n" in snapshot.roots[0].patch
    assert "\x1b" not in snapshot.roots[0].patch


def test_what_is_recorded_of_a_repository(tmp_path, repository):
    head = git(repository, "rev-parse", "HEAD")
    write(repository, {"model.py": "WIDTH = 4\n"})

    snapshot = captured(tmp_path, repository)

    (root,) = snapshot.roots
    assert (root.path, root.place, root.kind, root.commit, root.branch) == (
        str(repository),
        "",
        "git",
        head,
        "main",
    )
    assert (root.base, root.is_dirty, root.warnings) == (head, True, ())
    assert root.remotes == {"origin": str(tmp_path / "project.remote")}
    assert root.pack_bytes == snapshot.packs[root.tree].stat().st_size < 400
    assert not snapshot.missing


def test_a_clean_repository_needs_no_pack(tmp_path, repository):
    snapshot = captured(tmp_path, repository)

    (root,) = snapshot.roots
    assert root.tree == git(repository, "rev-parse", "HEAD^{tree}")
    assert (root.is_dirty, root.pack_bytes, root.patch, dict(snapshot.packs)) == (False, 0, None, {})
    assert on_disk(restored(tmp_path, snapshot)) == on_disk(repository)


def test_the_same_code_has_the_same_tree_in_git_in_a_copy_and_without_git(tmp_path, repository):
    make_dirty(repository)
    copy = tmp_path / "copy"
    shutil.copytree(repository, copy, symlinks=True, ignore=shutil.ignore_patterns(".git"))

    in_git, again, plain = (captured(tmp_path, folder).roots[0] for folder in (repository, repository, copy))

    assert in_git.tree == again.tree == plain.tree
    assert (in_git.kind, plain.kind) == ("git", "plain")


def test_unpushed_commits_are_in_the_pack(tmp_path, repository):
    base = git(repository, "rev-parse", "HEAD")
    write(repository, {"model.py": "WIDTH = 5\n"})
    commit(repository)
    write(repository, {"more.py": "m = 1\n"})
    commit(repository)

    snapshot = captured(tmp_path, repository)

    assert snapshot.roots[0].base == base
    assert not snapshot.roots[0].is_dirty
    git(repository, "reset", "-q", "--soft", base)
    git(repository, "reflog", "expire", "--expire=now", "--all")
    git(repository, "gc", "-q", "--prune=now")
    assert on_disk(restored(tmp_path, snapshot)) == on_disk(repository)


@pytest.mark.parametrize(
    "state", ["no remote", "no commit", "detached", "worktree", "shallow", "alternates", "sparse", "partial"]
)
def test_every_state_of_a_repository_is_captured(tmp_path, state):
    project = new_repository(tmp_path / "project", COMMITTED, pushed=state != "no remote")
    url = f"file://{tmp_path / 'project.remote'}"
    other = tmp_path / "other"
    if state == "no commit":
        other.mkdir()
        git(other, "init", "-q")
        write(other, COMMITTED)
    elif state == "detached":
        git(project, "checkout", "-q", "--detach")
    elif state == "worktree":
        git(project, "worktree", "add", "-q", str(other))
    elif state == "shallow":
        git(tmp_path, "clone", "-q", "--depth=1", url, str(other))
    elif state == "alternates":
        git(tmp_path, "clone", "-q", "--shared", str(project), str(other))
    elif state == "sparse":
        git(tmp_path, "clone", "-q", url, str(other))
        git(other, "sparse-checkout", "set", "--sparse-index", "a folder")
    elif state == "partial":
        git(tmp_path / "project.remote", "config", "uploadpack.allowFilter", "true")
        git(tmp_path, "clone", "-q", "--filter=blob:none", url, str(other))
    root = other if other.exists() else project
    write(root, {"train.py": "print('two')\n", "untracked.py": "u = 1\n"})

    snapshot = captured(tmp_path, root)

    assert snapshot.roots[0].kind == "git"
    assert snapshot.roots[0].is_dirty
    assert (snapshot.roots[0].branch is None) == (state == "detached")
    assert (snapshot.roots[0].base is None) == (state in ("no remote", "no commit"))
    assert on_disk(restored(tmp_path, snapshot)) == on_disk(root)


def test_another_owner_of_the_repository_is_no_obstacle(tmp_path, repository):
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can give files away")
    for path in (repository, repository / ".git"):
        os.chown(path, 12345, 12345)
    write(repository, {"model.py": "WIDTH = 4\n"})

    assert captured(tmp_path, repository).roots[0].kind == "git"


def test_submodules_are_roots_of_their_own_and_repositories_inside_are_listed(tmp_path, repository):
    library = new_repository(tmp_path / "library", {"lib.py": "v = 1\n"})
    git(repository, "submodule", "--quiet", "add", str(library), "vendor/library")
    commit(repository)
    git(repository, "push", "-q", "origin", "main")
    write(repository, {"vendor/library/lib.py": "v = 2\n"})
    new_repository(repository / "nested", {"n.py": "n = 1\n"}, pushed=False)

    snapshot = captured(tmp_path, repository)

    assert [root.place for root in snapshot.roots] == ["", "vendor/library"]
    assert [root.is_dirty for root in snapshot.roots] == [False, True]
    assert any("nested/" in warning for warning in snapshot.roots[0].warnings)
    shutil.rmtree(repository / "nested")
    assert on_disk(restored(tmp_path, snapshot)) == on_disk(repository)


def test_a_submodule_that_is_not_checked_out_is_named(tmp_path, repository):
    library = new_repository(tmp_path / "library", {"lib.py": "v = 1\n"})
    git(repository, "submodule", "--quiet", "add", str(library), "library")
    commit(repository)
    git(repository, "submodule", "deinit", "-q", "-f", "library")

    snapshot = captured(tmp_path, repository)

    assert snapshot.roots[0].warnings == ("a submodule that is not checked out was not captured: library",)
    assert on_disk(restored(tmp_path, snapshot)) == on_disk(repository)


def test_what_is_neither_a_file_nor_a_link_is_listed(tmp_path, repository):
    if not hasattr(os, "mkfifo"):
        pytest.skip("this platform has no named pipes")
    (repository / "model.py").unlink()
    os.mkfifo(repository / "model.py")

    (root,) = captured(tmp_path, repository).roots

    assert [(one.path, one.reason) for one in root.excluded] == [
        ("model.py", "it is neither a file nor a link")
    ]


def test_an_index_that_is_damaged_is_replaced_by_the_commit(tmp_path, repository):
    make_dirty(repository)
    (repository / ".git" / "index").write_bytes(b"damaged")

    snapshot = captured(tmp_path, repository)

    assert any("the index could not be read" in warning for warning in snapshot.roots[0].warnings)
    assert on_disk(restored(tmp_path, snapshot)) == on_disk(repository)


def test_edits_that_git_was_told_not_to_see_are_captured_and_named(tmp_path, repository):
    git(repository, "update-index", "--assume-unchanged", "model.py")
    git(repository, "update-index", "--skip-worktree", "both.py")
    write(repository, {"model.py": "WIDTH = 9\n", "both.py": "a = 9\n"})

    snapshot = captured(tmp_path, repository)

    assert sum("told not to look" in warning for warning in snapshot.roots[0].warnings) == 2
    assert on_disk(restored(tmp_path, snapshot)) == on_disk(repository)


def test_a_conflict_is_captured_as_it_lies_there(tmp_path, repository):
    git(repository, "checkout", "-q", "-b", "side")
    write(repository, {"model.py": "WIDTH = 1\n"})
    commit(repository)
    git(repository, "checkout", "-q", "main")
    write(repository, {"model.py": "WIDTH = 2\n"})
    commit(repository)
    with pytest.raises(AssertionError):
        git(repository, "merge", "-q", "side")

    snapshot = captured(tmp_path, repository)

    assert b"<<<<<<<" in (restored(tmp_path, snapshot) / "model.py").read_bytes()


def test_line_ends_are_those_of_the_disk_and_make_no_clean_repository_dirty(tmp_path, repository):
    git(repository, "config", "core.autocrlf", "true")
    shutil.copy(repository / "unix.txt", tmp_path / "kept")
    (repository / "unix.txt").unlink()
    git(repository, "checkout", "-q", "--", "unix.txt")
    assert b"\r\n" in (repository / "unix.txt").read_bytes()

    snapshot = captured(tmp_path, repository)

    assert not snapshot.roots[0].is_dirty
    assert on_disk(restored(tmp_path, snapshot)) == on_disk(repository)


def test_files_of_git_lfs_without_git_lfs(tmp_path, repository):
    large, pointer = (
        b"large content" * 9,
        b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n",
    )
    digest = hashlib.sha256(large).hexdigest()
    clean = filter_of(
        tmp_path, "lfs", f"cat > /dev/null; printf '{(pointer % (digest.encode(), len(large))).decode()}'"
    )
    write(
        repository,
        {".gitattributes": "*.pt filter=lfs\n", "kept.pt": large, "edited.pt": large, "grown.pt": large},
    )
    git(repository, "-c", f"filter.lfs.clean={clean}", "add", "-A")
    git(repository, "-c", f"filter.lfs.clean={clean}", "commit", "-q", "-m", "large files")
    git(repository, "push", "-q", "origin", "main")
    git(repository, "config", "filter.lfs.clean", "git-lfs clean -- %f")
    git(repository, "config", "filter.lfs.required", "true")
    write(repository, {"edited.pt": b"another", "grown.pt": b"x" * 5000})

    snapshot = captured(tmp_path, repository, limits=Limits(file_bytes=4000))

    dest = restored(tmp_path, snapshot)
    listed = {one.path: (one.digest, one.size_bytes) for one in snapshot.roots[0].excluded}
    assert listed["kept.pt"] == (f"sha256:{digest}", len(large))
    assert listed["grown.pt"] == (f"sha256:{hashlib.sha256(b'x' * 5000).hexdigest()}", 5000)
    assert set(listed) == {"kept.pt", "grown.pt"}
    assert (dest / "edited.pt").read_bytes() == b"another"
    assert (dest / "kept.pt").read_bytes() == pointer % (digest.encode(), len(large))
    assert b"size 5000\n" in (dest / "grown.pt").read_bytes()


def test_what_a_filter_decrypts_is_not_captured(tmp_path, repository):
    write(repository, {".gitattributes": "*.sec filter=git-crypt\n", "a.sec": "QQQQ", "b.sec": "QQQQ"})
    git(repository, "config", "filter.git-crypt.clean", "sed s/plaintext/QQQQ/")
    git(repository, "config", "filter.git-crypt.smudge", "sed s/QQQQ/plaintext/")
    commit(repository)
    git(repository, "push", "-q", "origin", "main")
    for name in ("a.sec", "b.sec"):
        (repository / name).unlink()
    git(repository, "checkout", "-q", "--", ".")
    assert (repository / "a.sec").read_text() == "plaintext"
    write(repository, {"b.sec": "plaintext and more", "new.sec": "plaintext of a new file"})
    os.utime(repository / "b.sec", (1, 1))

    snapshot = captured(tmp_path, repository)

    dest = restored(tmp_path, snapshot)
    assert {one.path for one in snapshot.roots[0].excluded} == {"a.sec", "b.sec", "new.sec"}
    assert (dest / "a.sec").read_text() == "QQQQ"
    assert not (dest / "b.sec").exists()
    assert not (dest / "new.sec").exists()
    assert "plaintext" not in (snapshot.roots[0].patch or "")


def test_limits_leave_out_the_largest_and_list_them(tmp_path, repository):
    from blake3 import blake3

    write(
        repository,
        {"big.bin": b"b" * 3000, "middle.bin": b"m" * 900, "small.py": "s = 1\n", "weights.bin": b"w" * 5000},
    )

    snapshot = captured(tmp_path, repository, limits=Limits(file_bytes=2000, total_bytes=500))

    listed = {one.path: one for one in snapshot.roots[0].excluded}
    assert set(listed) == {"big.bin", "middle.bin", "weights.bin"}
    assert listed["big.bin"].digest == "blake3:" + blake3(b"b" * 3000).hexdigest()
    assert listed["middle.bin"].size_bytes == 900
    expected = {name: one for name, one in on_disk(repository).items() if os.fsdecode(name) not in listed}
    assert on_disk(restored(tmp_path, snapshot)) == expected


def test_outputs_of_trackers_and_ignored_files_are_not_code(tmp_path, repository):
    write(
        repository,
        {
            ".gitignore": "data/\n",
            "data/d.csv": "1",
            ".mlobs/runs/x": "1",
            "mlruns/0/meta.yaml": "1",
            "sub/__pycache__/a.pyc": "1",
        },
    )
    (tmp_path / "home" / ".config" / "git").mkdir(parents=True)
    (tmp_path / "home" / ".config" / "git" / "ignore").write_text("*.swp\n")
    write(repository, {"x.swp": "1"})

    snapshot = captured(tmp_path, repository)

    assert set(on_disk(restored(tmp_path, snapshot))) == {
        os.fsencode(name) for name in (*COMMITTED, ".gitignore")
    }
    assert {one.path for one in snapshot.roots[0].excluded} == {".mlobs/", "mlruns/", "sub/__pycache__/"}


@pytest.mark.parametrize("is_git", [True, False], ids=["git", "plain"])
def test_the_store_is_not_code_wherever_it_lies(tmp_path, repository, is_git):
    if not is_git:
        shutil.rmtree(repository / ".git")
    write(repository, {"my-store/runs/x.journal": "1", "tmp/old.pack": "1"})

    snapshot = snapshot_code(
        repository,
        scratch=repository / "tmp" / "scratch",
        outputs=Outputs(stores=frozenset([repository / "my-store", repository / "tmp"])),
    )

    assert set(on_disk(restored(tmp_path, snapshot))) == {os.fsencode(name) for name in COMMITTED}


@pytest.mark.parametrize("is_git", [True, False], ids=["git", "plain"])
def test_code_in_a_folder_that_a_backend_writes_to_is_code(tmp_path, repository, is_git):
    if not is_git:
        shutil.rmtree(repository / ".git")
    written = {
        "exp/run-1/events.out.tfevents.1.h": "1",
        "exp/hparams.yaml": "1",
        "events.out.tfevents.2.h": "2",
    }
    code = {"exp/helper.py": "h = 1\n", "exp/deep/other.py": "o = 1\n"}
    write(repository, {**written, **code})

    snapshot = captured(tmp_path, repository, outputs=Outputs(backends=frozenset([repository / "exp"])))

    assert set(on_disk(restored(tmp_path, snapshot))) == {os.fsencode(name) for name in (*COMMITTED, *code)}


def test_a_repository_inside_the_main_root_keeps_its_place(tmp_path, repository):
    inner = new_repository(repository / "lib" / "inner", {"src/tool.py": "t = 1\n"})

    snapshot = captured(tmp_path, repository, loose=[inner / "src"])

    assert [(root.place, root.kind) for root in snapshot.roots] == [("", "git"), ("lib/inner", "git")]
    assert [root.place for root in snapshot.loose] == ["lib/inner"]
    assert set(on_disk(restored(tmp_path, snapshot) / "lib" / "inner")) == {b"src/tool.py"}


def test_files_that_changed_after_the_start_are_named(tmp_path, repository):
    now = time.time()
    write(repository, {"model.py": "WIDTH = 4\n", "late.py": "l = 1\n"})
    for path in repository.rglob("*.py"):
        os.utime(path, (now - 100, now - 100))
    os.utime(repository / "late.py", (now + 100, now + 100))

    snapshot = captured(tmp_path, repository, started_at=now + 50)

    assert snapshot.roots[0].warnings == ("changed after the start: late.py",)


def test_loose_roots_have_places_of_their_own(tmp_path, repository):
    shared = new_repository(tmp_path / "shared", {"src/tools/__init__.py": "t = 1\n"})
    plain = tmp_path / "plain"
    write(plain, {"helper.py": "h = 1\n", ".venv/lib/x.py": "1"})
    alone = tmp_path / "alone.py"
    alone.write_text("a = 1\n")

    snapshot = captured(tmp_path, repository, loose=[shared / "src", plain, alone, repository / "place"])

    assert [(root.place, root.kind) for root in snapshot.roots] == [
        ("", "git"),
        ("loose/src", "git"),
        ("loose/plain", "plain"),
        (f"loose/{tmp_path.name}", "plain"),
    ]
    dest = restored(tmp_path, snapshot)
    assert on_disk(dest / "loose" / "src") == on_disk(shared)
    assert set(on_disk(dest / "loose" / "plain")) == {b"helper.py"}
    assert set(on_disk(dest / "loose" / tmp_path.name)) == {b"alone.py"}


def test_a_loose_root_takes_no_place_that_the_main_root_has(tmp_path, repository):
    write(repository, {"loose/plain/own.py": "o = 1\n"})
    plain = tmp_path / "plain"
    write(plain, {"helper.py": "h = 1\n"})

    snapshot = captured(tmp_path, repository, loose=[plain])

    assert snapshot.roots[1].place == "loose/plain-2"
    assert set(on_disk(restored(tmp_path, snapshot) / "loose" / "plain-2")) == {b"helper.py"}


def test_an_ignored_folder_of_the_repository_is_captured_when_modules_came_from_it(tmp_path, repository):
    write(repository, {".gitignore": "generated/\n", "generated/made.py": "m = 1\n"})

    snapshot = captured(tmp_path, repository, loose=[repository / "generated"])

    assert [(root.place, root.kind) for root in snapshot.roots] == [("", "git"), ("loose/generated", "plain")]


def test_without_a_root_it_is_the_repository_of_the_script(tmp_path, repository, monkeypatch):
    monkeypatch.chdir(tmp_path / "home")

    snapshot = captured(tmp_path, None, script=repository / "a folder" / "with spaces.py")

    assert snapshot.roots[0].path == str(repository)


def test_a_script_in_the_home_folder_is_captured_alone(tmp_path, monkeypatch):
    home = tmp_path / "home"
    write(home, {"train.py": "t = 1\n", "diary.txt": "private"})
    monkeypatch.chdir(home)

    snapshot = captured(tmp_path, None, script=home / "train.py")

    assert set(on_disk(restored(tmp_path, snapshot))) == {b"train.py"}


def test_nothing_to_capture_is_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "home")

    with pytest.raises(CodeUncaptured, match="name one with root="):
        snapshot_code(None, scratch=tmp_path / "scratch")


def test_without_git_a_repository_is_a_plain_folder(tmp_path, repository, monkeypatch):
    make_dirty(repository)
    with_git = captured(tmp_path, repository)
    monkeypatch.setenv("PATH", str(tmp_path / "home"))

    snapshot = captured(tmp_path, repository)

    assert (snapshot.roots[0].kind, snapshot.roots[0].tree) == ("plain", with_git.roots[0].tree)
    assert any("git is not installed" in warning for warning in snapshot.roots[0].warnings)
    assert on_disk(restored(tmp_path, snapshot)) == on_disk(repository)


def test_a_repository_that_git_cannot_read_is_a_plain_folder_and_says_why(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q", "--object-format=sha256")
    write(other, {"a.py": "a = 1\n"})

    (root,) = captured(tmp_path, other).roots

    assert root.kind == "plain"
    assert any("sha256" in warning for warning in root.warnings)


def test_a_root_that_fails_does_not_take_the_others_with_it(tmp_path, repository):
    broken = new_repository(tmp_path / "broken", {"b.py": "b = 1\n"}, pushed=False)
    shutil.rmtree(broken / ".git" / "objects")
    (broken / ".git" / "objects").mkdir()

    snapshot = captured(tmp_path, repository, loose=[broken])

    assert [root.path for root in snapshot.roots if root.kind == "git"] == [str(repository)]
    assert snapshot.missing or snapshot.roots[1].warnings


def test_a_git_that_hangs_is_ended_with_all_that_it_started(tmp_path, monkeypatch):
    filter_of(tmp_path, "git", "sleep 100 & sleep 100")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    before = time.monotonic()

    with pytest.raises(GitFailed, match=r"git status did not end within 0\.2 s"):
        run_git(["-c", "a=b", "status"], cwd=tmp_path, timeout_s=0.2)

    assert time.monotonic() - before < 10


def test_git_asks_nothing_and_gets_no_terminal(tmp_path, monkeypatch):
    filter_of(tmp_path, "git", "env; cat; tty || true")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_ASKPASS", "SSH_ASKPASS", "GIT_EXTERNAL_DIFF"):
        monkeypatch.setenv(name, "planted")

    said = run_git(["status"], cwd=tmp_path).decode()

    assert "planted" not in said
    assert "GIT_TERMINAL_PROMPT=0" in said
    assert "not a tty" in said


def test_a_secret_never_stays_in_the_scratch_folder(tmp_path, repository):
    write(repository, {"s.py": 'password = "hunter2hunter"\n'})

    snapshot = captured(tmp_path, repository)

    assert set(tmp_path.joinpath("scratch").iterdir()) == set(snapshot.packs.values())


@pytest.mark.skipif(os.name != "posix", reason="signals between processes are POSIX's")
def test_ctrl_c_ends_git_too(tmp_path):
    """Git is in a group of its own: a terminal's key does not reach it."""
    programs, started = tmp_path / "bin", tmp_path / "started"
    programs.mkdir()
    fake = programs / "git"
    fake.write_text(
        f"#!/bin/sh\nread line\necho $$ > {started}.new\nmv {started}.new {started}\nexec sleep 600\n"
    )
    fake.chmod(0o755)
    env = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from pathlib import Path; from mlobs.repro.git import git\n"
        "git(['fetch'], cwd=Path(), content=b'line\\n')"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, env=env, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        while not started.exists():
            assert process.poll() is None

        process.send_signal(signal.SIGINT)

        assert process.wait(timeout=30) != 0
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)
