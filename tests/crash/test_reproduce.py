"""Real trainings, run again from their record: every verdict, and what it names as the cause."""

import json
import os
import signal
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from programs import environment, eventually, only_run, run, write
from test_snapshot import git

import mlobs

pytestmark = pytest.mark.slow

SKLEARN = """
import sys
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
import mlobs

frame = pd.read_csv(sys.argv[1])
with mlobs.Tracker("repro", store="store").start_run("logreg", params={"C": 0.5}) as run:
    run.log_dataset("train", frame)
    x, y = frame.drop(columns="y").to_numpy(), frame["y"].to_numpy()
    for step, size in enumerate((200, 400, 600)):
        model = LogisticRegression(C=0.5, max_iter=30).fit(x[:size], y[:size])
        run.log_metric("probability", float(model.predict_proba(x)[:, 1].mean()), step=step)
        run.log_metric("seconds", __import__("time").perf_counter(), step=step)
    run.log_model("classifier", model)
"""
TORCH = """
import torch
import mlobs

seeding = mlobs.seed_everything(SEED)
with mlobs.Tracker("repro", store="store").start_run("net") as run:
    x = torch.randn(256, 16)
    y = (x.sum(dim=1, keepdim=True) > 0).float()
    run.log_dataset("train", {"x": x, "y": y})
    net = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for step in range(5):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(net(x), y)
        optimizer.zero_grad(); loss.backward(); optimizer.step()
        run.log_metric("loss", loss, step=step)
    run.log_model("net", net)
"""
UNSEEDED = """
import numpy as np
import mlobs

with mlobs.Tracker("repro", store="store").start_run("noise") as run:
    for step in range(3):
        run.log_metric("draw", float(np.random.default_rng().normal()), step=step)
"""
SLOW = """
import os, time
import mlobs

with mlobs.Tracker("repro", store="store").start_run("slow") as run:
    run.log_metric("loss", 0.5)
    if "SLOW" in os.environ:
        with open("PLACE/started", "w") as file:
            file.write(str(os.getpid()))
        time.sleep(float(os.environ["SLOW"]))
"""
SUMMING = """
import mlobs

with mlobs.Tracker("repro", store="store").start_run("sum") as run:
    run.log_metric("sum", 0.5)
"""


@pytest.fixture
def data(tmp_path):
    """600 rows and 12 columns of numbers, and which of two classes each is, beside the program."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(5)
    x = rng.normal(size=(600, 12))
    frame = pd.DataFrame(x, columns=[f"x{number}" for number in range(12)])
    frame["y"] = (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(int)
    folder = tmp_path / "data"
    folder.mkdir()
    frame.to_csv(folder / "train.csv", index=False)
    return folder / "train.csv"


@pytest.fixture
def place(tmp_path):
    """A folder for the program, which is a repository."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / ".gitignore").write_text("store\n")
    git(folder, "init", "-q")
    return folder


def train(place, source, *arguments, **env):
    """Run the program once, and wait until its snapshot is whole."""
    done = run(place, source, *arguments, timeout_s=120, MLOBS_REPRO="auto", **env)
    assert done.returncode == 0, done.stderr
    eventually(lambda: "mlobs.recipe" in only_run(place).tags)
    return only_run(place)


def reproduce(place, *options, **env):
    """Run `mlobs reproduce` as a person would; return its exit code and its report."""
    command = [sys.executable, "-m", "mlobs", "reproduce", "latest", "--store", "store", "--json", *options]
    done = subprocess.run(
        command, cwd=place, env=environment(**env), capture_output=True, text=True, timeout=280, check=False
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def other_kernel():
    """A kernel of OpenBLAS that this machine has, and does not choose by itself."""
    import numpy as np
    from threadpoolctl import threadpool_info

    np.ones((2, 2)) @ np.ones((2, 2))
    mine = {one.get("architecture") for one in threadpool_info() if one["internal_api"] == "openblas"}
    if not mine:
        pytest.skip("NumPy does not compute by OpenBLAS here")
    return next(name for name in ("Haswell", "Sandybridge") if name not in mine)


def test_the_same_machine_gives_the_same_model(place, data):
    train(place, SKLEARN, data)

    code, report = reproduce(place)

    assert (code, report["verdict"]) == (0, "identical"), report
    assert (report["points"], report["models"]) == (3, 1)
    assert report["ignored"] == ["seconds"]
    assert report["folder"] is None
    assert len(list((place / "store" / "runs").iterdir())) == 1


def test_another_blas_kernel_is_equivalent_and_named(place, data):
    kernel = other_kernel()
    train(place, SKLEARN, data)

    code, report = reproduce(place, OPENBLAS_CORETYPE=kernel)

    assert (code, report["verdict"]) == (0, "equivalent"), report
    assert any("OPENBLAS_CORETYPE" in one for one in report["causes"])
    assert any(kernel in one and "kernel" in one for one in report["causes"])
    assert report["results"], "the model differs"
    code, _ = reproduce(place, "--strict", "--repeat", "1", OPENBLAS_CORETYPE=kernel)
    assert code == 1


def test_another_thread_count_is_named_where_it_matters(place, data):
    train(place, SKLEARN, data)

    code, report = reproduce(place, OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")

    assert code == 0
    assert report["verdict"] in ("identical", "equivalent")
    if report["verdict"] == "equivalent":
        assert any("threads" in one for one in report["causes"])


def test_one_edited_cell_is_another_input_and_its_column_is_named(place, data):
    train(place, SKLEARN, data)
    lines = data.read_text().splitlines()
    cells = lines[5].split(",")
    cells[3] = str(float(cells[3]) + 1e-9)
    data.write_text("\n".join([*lines[:5], ",".join(cells), *lines[6:]]) + "\n")

    code, report = reproduce(place)

    assert (code, report["verdict"]) == (2, "inputs-differ"), report
    assert any("column x3 changed" in one for one in report["inputs"])
    assert report["points"] == 3


def test_a_program_without_a_seed_is_not_deterministic(place):
    train(place, UNSEEDED)

    code, report = reproduce(place)

    assert (code, report["verdict"]) == (3, "nondeterministic"), report
    assert report["first_divergence"]["metric"] == "draw"
    assert report["first_divergence"]["step"] == 0
    assert any(one.startswith("draw: ") and "recorded" in one for one in report["spread"])


def test_a_torch_training_is_identical_if_it_is_seeded_and_not_if_it_is_not(place):
    pytest.importorskip("torch")
    train(place, TORCH.replace("SEED", "7"))
    code, report = reproduce(place)
    assert (code, report["verdict"]) == (0, "identical"), report
    assert (report["points"], report["models"]) == (5, 1)

    path = write(place, TORCH.replace("SEED", "").replace("seeding = mlobs", "# mlobs"))
    done = subprocess.run(
        [sys.executable, str(path)], cwd=place, env=environment(MLOBS_REPRO="auto"), check=False, timeout=120
    )
    assert done.returncode == 0
    latest = mlobs.load_run("latest", store=place / "store").run_id
    eventually(lambda: "environment" in mlobs.load_run(latest, store=place / "store").snapshots)
    code, report = reproduce(place)
    assert (code, report["verdict"]) == (2, "inputs-differ"), report  # its data is drawn anew, too


def test_uncommitted_binary_and_new_files_are_there_again(place, tmp_path):
    (place / "weights.bin").write_bytes(bytes(range(256)))
    git(place, "add", "-A")
    git(place, "commit", "-qm", "first")
    (place / "weights.bin").write_bytes(bytes(reversed(range(256))))
    (place / "layers").mkdir()
    (place / "layers" / "__init__.py").write_text("size = 3\n")
    source = """
    import pathlib
    import layers, mlobs

    with mlobs.Tracker("repro", store="store").start_run("files") as run:
        first = pathlib.Path("weights.bin").read_bytes()[0]
        run.log_metric("sum", first + layers.size)
    """

    train(place, source)
    (place / "layers" / "__init__.py").write_text("size = 4\n")
    (place / "weights.bin").unlink()

    code, report = reproduce(place, "--dest", str(tmp_path / "again"))

    assert (code, report["verdict"]) == (0, "identical"), report
    assert (tmp_path / "again" / "code" / "layers" / "__init__.py").read_text() == "size = 3\n"


def test_a_program_that_cannot_be_started_again_says_what_to_type(place):
    secret = "--token=ghp_" + "a1B2" * 10
    train(place, SUMMING, secret)

    code, report = reproduce(place)
    assert (code, report["verdict"]) == (4, "unverifiable")
    assert any("mlobs reproduce RUN -- python" in one for one in report["obstacles"])

    code, report = reproduce(place, "--", sys.executable, str(place / "program.py"), secret)
    assert (code, report["verdict"]) == (0, "identical"), report


def test_a_program_that_fails_this_time_cannot_be_judged(place, tmp_path):
    source = SUMMING.replace("import mlobs", f"import mlobs\nopen({str(tmp_path / 'needed')!r})")
    (tmp_path / "needed").touch()
    train(place, source)
    (tmp_path / "needed").unlink()

    code, report = reproduce(place)

    assert (code, report["verdict"]) == (4, "unverifiable")
    assert any("FileNotFoundError" in one for one in report["obstacles"])


def test_modules_are_started_as_modules_and_find_ignored_data_by_a_link(place):
    (place / ".gitignore").write_text("store\ndata\n")
    (place / "data").mkdir()
    (place / "data" / "number.txt").write_text("7")
    package = place / "trainer"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "import pathlib, mlobs\n"
        "with mlobs.Tracker('repro', store='store').start_run('module') as run:\n"
        "    run.log_metric('number', int(pathlib.Path('data/number.txt').read_text()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "trainer"],
        cwd=place,
        env=environment(MLOBS_REPRO="auto"),
        check=False,
        timeout=60,
    )
    assert done.returncode == 0
    eventually(lambda: "mlobs.recipe" in only_run(place).tags)

    code, report = reproduce(place)
    assert (code, report["verdict"]) == (4, "unverifiable")
    code, report = reproduce(place, "--link", "data")
    assert (code, report["verdict"]) == (0, "identical"), report


def test_a_notebook_is_run_again_as_its_cells_were_executed(place):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    cells = [
        "import mlobs\nrate = 0.5",
        "run = mlobs.Tracker('repro', store='store').start_run('notebook')",
        "run.log_metric('rate', rate)",
        "run.finish()",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in cells])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLOBS_REPRO", "auto")
        nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(place)}}).execute()
    eventually(lambda: "mlobs.recipe" in only_run(place).tags)
    assert only_run(place).snapshots["entry"].facts["kind"] == "notebook"

    code, report = reproduce(place)

    assert (code, report["verdict"]) == (0, "identical"), report


def test_two_runs_of_one_recipe_that_disagree_are_flagged_from_history(place):
    train(place, UNSEEDED)
    done = run(place, UNSEEDED, MLOBS_REPRO="auto")
    assert done.returncode == 0, done.stderr
    runs = mlobs.runs(store=place / "store")["run_id"].tolist()
    eventually(lambda: "mlobs.recipe" in mlobs.load_run(runs[-1], store=place / "store").tags)

    report = mlobs.verify(runs[0], store=place / "store")

    assert report.verdict == "nondeterministic"
    assert report.repetitions == (runs[1],)


def test_the_environment_is_made_again_and_gives_the_same(place, tmp_path):
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    python = str(home / "bin" / "python")
    wanted = ["blake3", "msgspec", "pandas", "pillow", "rich", "typer", "threadpoolctl"]
    made = subprocess.run([python, "-m", "pip", "install", "-q", *wanted], check=False, timeout=240)
    if made.returncode != 0:
        pytest.skip("no package index can be reached")
    sources = str(Path(mlobs.__file__).parent.parent)
    source = SUMMING.replace("0.5", "float(numpy.float32(0.1))").replace(
        "import mlobs", "import numpy\nimport mlobs"
    )
    env = environment(MLOBS_REPRO="auto", PYTHONPATH=sources)
    done = subprocess.run([python, str(write(place, source))], cwd=place, env=env, check=False, timeout=60)
    assert done.returncode == 0
    eventually(lambda: "mlobs.recipe" in only_run(place).tags)

    code, report = reproduce(place, "--env", "recreate", "--dest", str(tmp_path / "again"))

    assert (code, report["verdict"]) == (0, "identical"), report
    assert any("environment was made again" in one for one in report["checks"])
    assert (tmp_path / "again" / "venv").is_dir()


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_stops_a_reproduction_stops_the_program_too(place, number):
    train(place, SLOW.replace("PLACE", str(place)))
    command = [sys.executable, "-m", "mlobs", "reproduce", "latest", "--store", "store"]
    places, started = {"TMPDIR": str(place.parent), "SLOW": "600"}, place / "started"
    with subprocess.Popen(command, cwd=place, env=environment(**places), start_new_session=True) as process:
        pid = int(eventually(lambda: started.exists() and started.read_text()))

        process.send_signal(number)

        assert process.wait(timeout=60) != 0
    assert not Path(f"/proc/{pid}").exists()
    if number == signal.SIGINT:
        assert list(place.parent.glob("mlobs-reproduce-*")) == []
