"""Secrets reach neither the store, nor the logs, nor the backends, nor the list of processes."""

import stat
from pathlib import Path

import pytest
from programs import delivered, end_sender, eventually, only_run, run, running, sender_of
from servers import free_port

import mlobs
from mlobs.secrets import REDACTED

PLANTED = {
    "param": "plantedParam1",
    "nested": "plantedNested2",
    "tag": "plantedTag3",
    "url": "plantedUrl4",
    "variable": "plantedVariable5",
    "exception": "plantedException6",
    "argument": "plantedArgument7",
    "tracking": "plantedTracking8",
    "decorated": "plantedDecorated9",
    "artifact": "plantedArtifact0",
    "vendor": "plantedVendor11",
    "child": "plantedChild12",
}
TRAIN = """
import sys
import mlobs
from mlobs.backends import MLflow, TensorBoard

backends = [
    MLflow(tracking_uri="sqlite:///mlflow.db"),
    TensorBoard(logdir="board"),
    MLflow("http://user:plantedTracking8@127.0.0.1:PORT", name="far", password="plantedVendor11"),
]
tracker = mlobs.Tracker("secrets", backends=backends, store="store", finish_timeout_s=8)

@tracker.track
def train(lr, api_key):
    run = mlobs.current_run()
    run.log_params({"password": "plantedParam1", "db": {"url": "postgresql://me:plantedUrl4@db/x"}})
    run.log_param("model", {"auth": {"accessToken": "plantedNested2"}, "pad_token": "<pad>"})
    run.log_param("note", "the key is plantedVariable5")
    run.set_tag("secret", "plantedTag3")
    run.child("fold", tags={"client_secret": "plantedChild12"}).finish()
    run.log_metric("loss", 0.5)
    raise ValueError("cannot log in: password=plantedException6")

train(0.1, api_key="plantedDecorated9")
"""


def holders_of(secret: str, folder: Path):
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "program.py"]
    return [str(path) for path in files if secret.encode() in path.read_bytes()]


@pytest.mark.slow
def test_no_secret_reaches_the_store_the_logs_the_backends_or_the_list_of_processes(tmp_path):
    source = TRAIN.replace("PORT", str(free_port()))
    arguments = ("--api-key", PLANTED["argument"], "--lr=0.1")
    with running(tmp_path, source, *arguments, SERVICE_TOKEN=PLANTED["variable"]) as program:
        run_id = eventually(lambda: (tmp_path / "store/runs").exists() and only_named(tmp_path))
        sender = eventually(lambda: sender_of(tmp_path, run_id))
        command = Path(f"/proc/{sender.pid}/cmdline").read_bytes()
        assert program.wait(timeout=120) == 1
    eventually(lambda: delivered(tmp_path, run_id, "mlflow", "tensorboard"))
    end_sender(tmp_path, run_id)

    output = (tmp_path / "output").read_text()
    (tmp_path / "output").unlink()  # Python itself prints the traceback of the user's exception there
    for secret in PLANTED.values():
        assert holders_of(secret, tmp_path) == []
        assert secret.encode() not in command
    said = [line for line in output.splitlines() if "was not recorded" in line or "mlobs" in line]
    assert not any(secret in line for line in said for secret in PLANTED.values())
    record = mlobs.load_run(run_id, store=tmp_path / "store")
    assert record.params["lr"] == 0.1
    assert record.params["model.pad_token"] == "<pad>"
    assert record.params["password"] == record.params["api_key"] == REDACTED
    assert record.params["db.url"] == f"postgresql://{REDACTED}@db/x"
    assert record.start.argv[1:] == ("--api-key", REDACTED, "--lr=0.1")
    assert record.reason == f"ValueError: cannot log in: password={REDACTED}"
    assert output.count("'password'") == 1


def only_named(folder):
    names = sorted(path.name for path in (folder / "store/runs").iterdir() if not path.name.startswith("."))
    return names[0] if names else None


def test_what_the_user_allows_is_recorded(tmp_path):
    source = """
    import mlobs
    params = {"token": "q8Zr41LmTt90pXs2", "password": "x"}
    mlobs.Tracker("secrets", store="store").start_run(params=params).finish()
    """
    done = run(tmp_path, source, MLOBS_SECRETS_ALLOW="token")

    assert only_run(tmp_path).params == {"token": "q8Zr41LmTt90pXs2", "password": REDACTED}
    assert "MLOBS_SECRETS_ALLOW" in done.stderr
    assert "token" not in done.stderr


TRACKED = """
import os
import mlobs
os.umask(0)
run = mlobs.Tracker("private", backends=["tensorboard"], store="store", finish_timeout_s=20).start_run()
run.log_text("note", "x" * 100_000)
if os.fork() == 0:
    run.log_metric("a", 1.0)
    os._exit(0)
os.wait()
run.finish()
"""


def modes(folder):
    """The permissions of every folder and file below, without those of the executable bit of folders."""
    found = [(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in [folder, *folder.rglob("*")]]
    return {mode for is_dir, mode in found if is_dir}, {mode for is_dir, mode in found if not is_dir}


def test_a_store_is_its_owners_alone_whatever_the_umask(tmp_path):
    run(tmp_path, TRACKED)
    eventually(lambda: delivered(tmp_path, only_run(tmp_path).run_id, "tensorboard"))

    assert modes(tmp_path / "store") == ({0o700}, {0o600})


def test_a_store_in_a_teams_folder_is_the_teams(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store").chmod(0o2770)
    run(tmp_path, TRACKED.replace("os.umask(0)", "os.umask(0o077)"))
    eventually(lambda: delivered(tmp_path, only_run(tmp_path).run_id, "tensorboard"))

    assert modes(tmp_path / "store") == ({0o2770}, {0o660})
    assert (tmp_path / "store").stat().st_gid == only_run(tmp_path).folder.path.stat().st_gid
