"""Which loaded modules are the program's own, and where they come from."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from blake3 import blake3
from git_repositories import new_repository, write

import mlobs
from mlobs.repro.code_root import CodeRoot, Excluded
from mlobs.repro.modules import loaded_roots
from mlobs.repro.places import is_too_wide, library_kind
from mlobs.repro.uncaptured import UncapturedFile, find_uncaptured, folders_outside

PROGRAM = """
import json, sys
sys.path[1:1] = {path!r}
import {names}
import json as _standard, msgspec as _installed
import mlobs
from mlobs.repro.modules import loaded_roots
found = loaded_roots(started_at={started_at})
print(json.dumps({{name: [str(path) for path in paths] for name, paths in vars(found).items()}}))
"""


@pytest.fixture(autouse=True)
def _own_environment(tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "home" / ".gitconfig"))


def found_by(folder, names, path=(), started_at=None):
    """What a program in a folder finds that imports these names."""
    script = folder / "train.py"
    script.write_text(PROGRAM.format(path=[str(one) for one in path], names=names, started_at=started_at))
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True, cwd=folder
    )
    return json.loads(done.stdout)


def own(paths):
    """Without mlobs itself, which these tests load from its source."""
    source = str(Path(mlobs.__file__).parents[1])
    return {path for path in paths if not path.startswith(source)}


def test_own_modules_are_told_from_pythons_and_installed_ones(tmp_path):
    project = new_repository(
        tmp_path / "project", {"model.py": "", "package/__init__.py": "", "package/part.py": ""}
    )

    found = found_by(project, "model, package.part")

    names = ("train.py", "model.py", "package/__init__.py", "package/part.py")
    assert own(found["local"]) == {str(project / name) for name in names}
    assert own(found["loose"]) == set()


def test_the_folder_that_others_modules_were_found_in_is_a_loose_root(tmp_path):
    project = new_repository(tmp_path / "project", {"model.py": ""})
    write(
        tmp_path / "shared" / "src",
        {"tools/__init__.py": "", "tools/deep/__init__.py": "", "tools/deep/x.py": "", "single.py": ""},
    )

    found = found_by(project, "model, tools.deep.x, single", path=[tmp_path / "shared" / "src"])

    assert own(found["loose"]) == {str(tmp_path / "shared" / "src")}


def test_of_a_home_folder_only_the_modules_are_loose_roots(tmp_path):
    project = new_repository(tmp_path / "project", {"model.py": ""})
    write(tmp_path / "home", {"single.py": "", "tools/__init__.py": "", "diary.txt": ""})

    found = found_by(project, "single, tools", path=[tmp_path / "home"])

    assert own(found["loose"]) == {str(tmp_path / "home" / "single.py"), str(tmp_path / "home" / "tools")}


def test_modules_that_were_edited_after_the_start_are_named(tmp_path):
    project = new_repository(tmp_path / "project", {"model.py": "", "late.py": ""})
    now = time.time()
    os.utime(project / "model.py", (now - 100, now - 100))
    os.utime(project / "late.py", (now + 1000, now + 1000))

    assert own(found_by(project, "model, late", started_at=now + 500)["changed"]) == {
        str(project / "late.py")
    }


def test_imported_modules_that_git_ignores_are_named(tmp_path):
    project = new_repository(tmp_path / "project", {"model.py": "", "kept_gen.py": ""})
    write(project, {".gitignore": "*_gen.py\n", "made_gen.py": "x = 1\n"})

    local = [Path(path) for path in own(found_by(project, "model, made_gen, kept_gen")["local"])]

    assert {path.name for path in local} == {"model.py", "made_gen.py", "kept_gen.py", "train.py"}
    digest = "blake3:" + blake3(b"x = 1\n").hexdigest()
    path = str(project / "made_gen.py")
    assert find_uncaptured([root_of(project)], local) == [
        UncapturedFile(path, "made_gen.py", "git ignores it", digest)
    ]


def test_each_module_is_asked_of_the_repository_that_it_lies_in(tmp_path):
    project = new_repository(tmp_path / "project", {"model.py": "", ".gitignore": "*_gen.py\n"})
    inner = new_repository(project / "inner", {"part_gen.py": "", "made.py": "", ".gitignore": "made.py\n"})
    plain = tmp_path / "plain"
    plain.mkdir()
    roots = [root_of(project), root_of(inner, "inner"), root_of(plain, "loose/plain", kind="plain")]
    modules = [project / "model.py", inner / "part_gen.py", inner / "made.py", plain / "any_gen.py"]

    found = find_uncaptured(roots, [*modules, tmp_path / "elsewhere.py"])

    assert [(one.path, one.place) for one in found] == [(str(inner / "made.py"), "inner/made.py")]


def test_no_digest_is_kept_of_an_ignored_module_that_may_hold_a_secret(tmp_path):
    project = new_repository(tmp_path / "project", {".gitignore": "local_*.py\n"})
    write(
        project, {"local_settings.py": 'PASSWORD = "correct-horse-battery-9"\n', "local_rates.py": "R = 1\n"}
    )

    found = find_uncaptured([root_of(project)], [project / "local_settings.py", project / "local_rates.py"])

    assert {Path(one.path).name: one.digest is None for one in found} == {
        "local_settings.py": True,
        "local_rates.py": False,
    }


def test_what_a_capture_left_out_is_named_with_its_reason(tmp_path):
    excluded = (
        Excluded("big.py", 1 << 30, None, "it is large"),
        Excluded("runs/", 0, None, "what a tracker wrote"),
    )
    git, plain = tmp_path / "git", tmp_path / "plain"
    write(tmp_path, {"git/big.py": "", "git/runs/deep/a.py": "", "plain/wandb/b.py": "", "plain/c.py": ""})
    roots = [root_of(git, kind="plain", excluded=excluded), root_of(plain, kind="plain")]

    found = find_uncaptured(roots, sorted(tmp_path.rglob("*.py")))

    assert {Path(one.path).name: one.reason for one in found} == {
        "big.py": "it is large",
        "a.py": "what a tracker wrote",
        "b.py": "it lies in a folder of outputs, caches or libraries",
    }


def test_a_repository_inside_and_what_lies_in_nobodys_folder_are_outside_of_a_root(tmp_path):
    project = new_repository(tmp_path / "project", {"model.py": ""})
    inner = new_repository(project / "lib" / "inner", {"pkg/__init__.py": "", "pkg/a.py": "", "b.py": ""})
    home = tmp_path / "home"
    write(home, {"train.py": "", "helper.py": "", "tools/__init__.py": "", "tools/x.py": ""})
    modules = [project / "model.py", inner / "pkg" / "a.py", inner / "b.py", *home.rglob("*.py")]

    found = folders_outside([root_of(project), root_of(home, kind="plain")], modules, home / "train.py")

    assert found == sorted([inner, home / "helper.py", home / "tools"])


def root_of(folder, place="", kind="git", excluded=()):
    return CodeRoot(path=str(folder), place=place, tree="a" * 40, kind=kind, excluded=excluded)


def test_what_only_pretends_to_be_a_module_does_no_harm():
    class Lazy:
        def __getattr__(self, name):
            raise RuntimeError(name)

    modules = {"lazy": Lazy(), "none": None, "odd": type(sys)("odd"), "sys": sys}
    modules["odd"].__file__ = 7

    assert loaded_roots(modules).local == ()


def test_a_standard_and_an_installed_module_are_known_by_their_place():
    assert library_kind(json.__file__) == "stdlib"
    assert library_kind(pytest.__file__) == "site-packages"
    assert library_kind(__file__) is None


def test_places_where_everything_lies_are_too_wide(tmp_path):
    assert is_too_wide(Path("/"))
    assert is_too_wide(tmp_path / "home")
    assert is_too_wide(Path(pytest.__file__).parents[1])
    assert not is_too_wide(tmp_path / "project")
