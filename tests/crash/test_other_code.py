"""Real programs whose code is another one the second time: that is seen, wherever the code lies."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from programs import environment, eventually, write

import mlobs
from mlobs.repro.recipe import recipe_of

TRAINING = """
import mlobs
{imports}

with mlobs.Tracker("other", store={store!r}).start_run("only") as run:
    run.log_metric("loss", float({value}))
{after}
"""


class Place:
    """A folder of somebody's, with a store beside it and programs that run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, folder / "store"
        self.project = folder / "project"
        self.project.mkdir()

    def git(self, *arguments, cwd=None):
        who = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
        facts = {"HOME": str(self.folder), "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        subprocess.run(
            ["git", *who, *arguments],
            cwd=cwd or self.project,
            env={**os.environ, **facts},
            check=True,
            capture_output=True,
        )

    def commit(self, cwd=None):
        self.git("init", "-q", cwd=cwd)
        self.git("add", "-A", cwd=cwd)
        self.git("commit", "-qm", "all", "--allow-empty", cwd=cwd)

    def training(self, imports, value, after="", name="train.py", folder=None):
        source = TRAINING.format(imports=imports, value=value, after=after, store=str(self.store))
        return write(folder or self.project, source, name)

    def run(self, *arguments, cwd=None, **variables):
        """Run a program to its end, and return its run once the sender has done its share."""
        more = {"MLOBS_REPRO": "auto", "HOME": str(self.folder / "home"), "PYTHONDONTWRITEBYTECODE": "1"}
        subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=cwd or self.project,
            env=environment(**more | variables),
            check=True,
            timeout=60,
        )
        eventually(lambda: not list((self.store / "senders").iterdir()))
        return mlobs.load_run("latest", store=self.store)

    def reproduce(self, **options):
        return mlobs.reproduce("latest", store=self.store, **options)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def package_that_is_a_repository(place):
    library = place.folder / "code" / "mypkg"
    library.mkdir(parents=True)
    place.commit(library)
    place.training("import mypkg", "mypkg.LOSS")
    place.commit()
    return library / "__init__.py", ["train.py"], {"PYTHONPATH": str(library.parent)}


def repository_in_a_repository_beside(place):
    outer = place.folder / "outer"
    inner = outer / "inner"
    inner.mkdir(parents=True)
    place.commit(inner)
    (outer / "top.py").touch()
    place.commit(outer)
    place.training("import top, inner.part", "inner.part.LOSS")
    return inner / "part.py", ["train.py"], {"PYTHONPATH": str(outer)}


def package_behind_a_link(place):
    package = place.folder / "elsewhere" / "pk"
    package.mkdir(parents=True)
    (place.project / "pk").symlink_to(package)
    place.training("import pk", "pk.LOSS")
    return package / "__init__.py", ["train.py"], {}


def module_that_is_a_link(place):
    shared = place.folder / "shared"
    shared.mkdir()
    (place.project / "helper.py").symlink_to(Path("..", "shared", "helper.py"))
    place.training("import helper", "helper.LOSS")
    place.commit()
    return shared / "helper.py", ["train.py"], {}


def one_of_too_many_files(place):
    data = place.project / "data"
    data.mkdir()
    for number in range(20_100):
        (data / str(number)).touch()
    place.training("import helper", "helper.LOSS")
    return place.project / "helper.py", ["train.py"], {}


def namespace_package_beside_a_script_in_a_home(place):
    package = place.folder / "home" / "space"
    package.mkdir(parents=True)
    place.training("import space.helper", "space.helper.LOSS", folder=package.parent)
    return package / "helper.py", [package.parent / "train.py"], {}


@pytest.mark.parametrize(
    "layout",
    [
        package_that_is_a_repository,
        repository_in_a_repository_beside,
        package_behind_a_link,
        module_that_is_a_link,
        one_of_too_many_files,
        namespace_package_beside_a_script_in_a_home,
    ],
)
def test_another_module_is_another_recipe(place, layout):
    module, command, variables = layout(place)
    recipes = []
    for loss in (0.5, 0.25):
        module.write_text(f"LOSS = {loss}\n")
        recipes.append(place.run(*command, **variables).tags["mlobs.recipe"])

    assert recipes[0] != recipes[1]
    assert place.run(*command, **variables).tags["mlobs.recipe"] == recipes[1]


def test_of_a_module_in_an_archive_that_is_too_large_nothing_is_said_to_be_known(place):
    with zipfile.ZipFile(place.project / "lib.zip", "w") as archive:
        archive.writestr("helper.py", "LOSS = 0.5\n")
        archive.writestr("noise", os.urandom(11 << 20))
    place.training("import sys; sys.path.insert(0, 'lib.zip'); import helper", "helper.LOSS")
    place.commit()
    place.git("rm", "-q", "--cached", "lib.zip")

    recipe = recipe_of(place.run("train.py"))

    assert recipe.key is None
    assert any("helper.py was imported and not captured: it is larger" in one for one in recipe.missing)


@pytest.mark.parametrize(
    ("one", "other", "variables"),
    [
        (["a/train.py"], ["b/train.py"], ({}, {})),
        (["train.py"], ["-O", "train.py"], ({}, {})),
        (["train.py"], ["train.py"], ({"PYTHONPATH": "a"}, {"PYTHONPATH": "b"})),
    ],
    ids=["script", "option", "path"],
)
def test_another_start_in_the_same_code_is_another_recipe(place, one, other, variables):
    for name in ("a", "b"):
        (place.project / name).mkdir()
        place.training("", "__debug__", folder=place.project / name)
        write(place.project / name, "LOSS = 1\n", "helper.py")
    place.training("", "__debug__")
    place.commit()

    first = place.run(*one, **variables[0]).tags["mlobs.recipe"]
    second = place.run(*other, **variables[1]).tags["mlobs.recipe"]

    assert first != second


def test_a_module_that_was_edited_or_removed_meanwhile_leaves_no_recipe(place):
    edit = "import os, helper, pathlib; pathlib.Path(helper.__file__).write_text('LOSS = 2')"
    remove = "import os, helper; os.remove(helper.__file__)"
    for change in (edit, remove):
        write(place.project, "LOSS = 1\n", "helper.py")
        place.training(change, "helper.LOSS")
        missing = recipe_of(place.run("train.py")).missing
        assert f"{place.project / 'helper.py'} was edited after the program had begun" in missing


def test_a_repetition_writes_into_no_file_of_the_users(place):
    outputs = {
        "checkpoint.bin": 11 << 20,  # too large to be packed
        "cache.npy": 100,  # a dataset
        "ignored.bin": 100,
    }
    writing = "\n".join(
        f"    (pathlib.Path(__file__).resolve().parent / {name!r}).write_bytes(os.urandom({size}))"
        for name, size in outputs.items()
    )
    place.training(
        "import os, pathlib",
        "1",
        after=f"{writing}\n    run.log_dataset('d', pathlib.Path('cache.npy'))",
        name="ignored_train.py",
    )
    (place.project / ".gitignore").write_text("ignored*\n")
    place.commit()
    for _ in range(2):
        place.run("ignored_train.py")
    before = {name: (place.project / name).read_bytes() for name in outputs}

    place.reproduce(data="skip")

    assert {name: (place.project / name).read_bytes() for name in outputs} == before


def test_a_repetition_that_loads_edited_code_from_where_it_lay_is_not_judged(place):
    library = place.project / "lib"
    library.mkdir()
    write(library, "LOSS = 1\n", "helper.py")
    place.training(f"import sys; sys.path.insert(0, {str(library)!r}); import helper", "helper.LOSS")
    place.commit()
    place.run("train.py")
    assert place.reproduce().verdict == "identical"

    write(library, "LOSS = 2\n", "helper.py")

    report = place.reproduce()
    assert report.verdict == "inputs-differ"
    assert (
        f"code: {library / 'helper.py'} was loaded from where it lies, and is not as it was" in report.inputs
    )


def test_links_lead_to_what_they_led_to(place):
    real = place.folder / "real"
    real.mkdir()
    (place.folder / "link").symlink_to(real)
    write(real, "LOSS = 1\n", "helper.py")
    place.training("import helper", "helper.LOSS", folder=real)
    (real / "data").symlink_to(Path("..", "shared"))
    (place.folder / "shared").mkdir()
    (place.folder / "shared" / "train.csv").write_text("1")
    place.commit(real)

    place.run(place.folder / "link" / "train.py", cwd=place.folder)
    assert place.reproduce().verdict == "identical"

    (place.project / "run.py").symlink_to(real / "train.py")
    place.run("run.py")
    assert place.reproduce().verdict == "identical"


def test_modules_of_one_name_come_in_the_order_of_the_path(place):
    for name, loss in (("z", 1), ("a", 2)):
        (place.folder / name).mkdir()
        write(place.folder / name, f"LOSS = {loss}\n", "common.py")
        write(place.folder / name, "", f"only_{name}.py")
    there = "pathlib.Path(__file__).parent.parent"
    place.training(
        f"import pathlib, sys; sys.path[1:1] = [str({there} / one) for one in 'za']; import common, only_a",
        "common.LOSS",
    )
    place.run("train.py")
    report = place.reproduce()
    assert report.verdict == "identical", report


def test_a_folder_that_is_a_program_is_started_where_it_was_restored(place):
    place.training("import helper", "helper.LOSS", name="__main__.py")
    write(place.project, "LOSS = 1\n", "helper.py")
    place.commit()
    place.run(place.project, cwd=place.folder)
    write(place.project, "LOSS = 2\n", "helper.py")

    assert place.reproduce().verdict == "identical"
