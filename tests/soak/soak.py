"""Real trainings under a random mix of real faults, for a while; then everything is counted.

    soak.py --seconds 600 --seed 1

The same seed plans the same trainings and the same faults; when exactly they meet is the machine's.
Prints what was done, and what was lost, doubled or untrue in the store, MLflow and TensorBoard. Exits
with 1 if anything was.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "crash")]

from counting import counted
from programs import board_points, environment, local_points, mlflow_points, mlflow_runs, sender_of
from proxy import Fault, proxied, status
from servers import free_port, mlflow_server

import mlobs
from mlobs.delivery.report import report
from mlobs.journal.store import Store

AT_ONCE = 3
KINDS = ("plain", "threads", "forks", "spawns", "children")
ENDS = ("", "", "", "exception", "SIGTERM", "SIGINT", "SIGKILL", "os._exit", "sys.exit(3)", "abort")
STATUS = {
    "": "FINISHED", "exception": "FAILED", "sys.exit(3)": "FAILED", "SIGTERM": "KILLED", "SIGINT": "KILLED",
    "SIGKILL": "CRASHED", "os._exit": "CRASHED", "abort": "CRASHED",
}  # fmt: skip
TOLD = {"FINISHED": "FINISHED", "FAILED": "FAILED", "KILLED": "KILLED", "CRASHED": "FAILED"}
TROUBLES = (
    status(500), status(503), status(429, retry_after="1"), Fault("close"), Fault("lost answer"),
    Fault("stall"), Fault("stall after forwarding"), Fault("garbage"), Fault("half"),
    Fault("slow", delay_s=0.5),
)  # fmt: skip
SYNCS = 5  # one may end while the last lingering sender hands over


class Soak:
    """The trainings that run, the faults that happen, and the plan's random numbers."""

    def __init__(self, folder: Path, seed: int, proxy) -> None:
        self.folder, self.proxy = folder, proxy
        self.random = random.Random(seed)
        self.running: dict[subprocess.Popen, dict] = {}
        self.expected: dict[str, set[str]] = {}  # by the run's name
        self.faults: Counter[str] = Counter()
        self.plans = 0

    def run(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.reap()
            while len(self.running) < AT_ONCE:
                self.start()
            self.strike()
            time.sleep(self.random.uniform(0.1, 1.0))
        self.proxy.listen()
        self.proxy.fault = None
        while self.running:
            self.reap()
            time.sleep(0.05)

    def start(self) -> None:
        pick = self.random
        steps = pick.randrange(200, 1500)
        plan = {
            "name": f"run-{self.plans}", "kind": pick.choice(KINDS), "steps": steps,
            "ending": pick.choice(ENDS), "pace_s": pick.choice((0.0005, 0.002, 0.005)),
            "end_at": pick.randrange(steps), "repro": pick.choice(("off", "auto")),
        }  # fmt: skip
        plan["end_at"] = plan["end_at"] if plan["ending"] else -1
        self.plans += 1
        command = [sys.executable, str(HERE / "trainer.py"), self.proxy.uri, json.dumps(plan)]
        settings = environment(MLOBS_HANG_TIMEOUT_S="3", MLOBS_LINGER_S="10", MLOBS_REPRO=plan["repro"])
        with (self.folder / f"{plan['name']}.log").open("wb") as output:
            process = subprocess.Popen(command, cwd=self.folder, env=settings, stdout=output, stderr=output)
        self.running[process] = plan

    def reap(self) -> None:
        for process, plan in list(self.running.items()):
            if process.poll() is not None:
                del self.running[process]
                was_struck = plan.get("struck") and process.returncode == -signal.SIGKILL
                planned = STATUS[plan["ending"]]  # it may have recorded this before it was struck
                self.expected[plan["name"]] = {planned, "CRASHED"} if was_struck else {planned}

    def strike(self) -> None:
        strikes = (self.kill_sender, self.kill_trainer, self.stop_trainer, self.trouble, self.outage)
        strike = self.random.choice((*strikes, self.calm, self.calm))
        strike(self.random.random())

    def kill_sender(self, number: float) -> None:
        alive = [one for one in map(self.sender, Store(self.folder / "store").runs()) if one]
        if alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(alive[int(number * len(alive))].pid, signal.SIGKILL)
                self.faults["sender killed"] += 1

    def sender(self, folder):
        return sender_of(self.folder, folder.run_id)

    def kill_trainer(self, number: float) -> None:
        process = list(self.running)[int(number * len(self.running))]
        self.running[process]["struck"] = True
        process.kill()
        self.faults["training killed"] += 1

    def stop_trainer(self, number: float) -> None:
        process = list(self.running)[int(number * len(self.running))]
        process.send_signal(signal.SIGSTOP)
        time.sleep(number)
        process.send_signal(signal.SIGCONT)
        self.faults["training stopped for a while"] += 1

    def trouble(self, number: float) -> None:
        self.proxy.fault = fault = TROUBLES[int(number * len(TROUBLES))]
        self.faults[f"server: {fault.kind} {fault.status if fault.kind == 'status' else ''}".strip()] += 1

    def outage(self, number: float) -> None:
        self.proxy.refuse()
        self.faults["server: refuses"] += 1
        time.sleep(2 * number)
        self.proxy.listen()

    def calm(self, _number: float) -> None:
        self.proxy.fault = None


def sync(folder: Path) -> int:
    """Deliver what is left, as a user would."""
    for _ in range(SYNCS):
        command = [sys.executable, "-m", "mlobs", "sync", "--store", "store"]
        done = subprocess.run(
            command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=600, check=False
        )
        if done.returncode == 0:
            return 0
        time.sleep(2)
    print(done.stderr[-5000:])
    return done.returncode


def problems_of(folder: Path, uri: str, expected: dict[str, set[str]]) -> Counter:
    """Compare what every place holds with what was counted."""
    found: Counter[str] = Counter()
    there = mlflow_runs(uri, "soak")
    for run_folder in Store(folder / "store").runs():
        run_id = run_folder.run_id
        record = mlobs.load_run(run_id, store=folder / "store")
        wanted = expected.get(
            record.name, {"FINISHED", "CRASHED"}
        )  # a child run may be struck with its parent
        if record.status not in wanted:
            found["untrue status here"] += 1
            print(f"{run_id} {record.name}: {record.status} ({record.reason}), but it was {wanted}")
        of_run = there.get(run_id, [])
        found["doubled runs in MLflow"] += max(0, len(of_run) - 1)
        if not of_run:
            found["runs missing in MLflow"] += 1
            continue
        if of_run[0].info.status != TOLD[record.status]:
            found["untrue status in MLflow"] += 1
            print(f"{run_id} {record.name}: {of_run[0].info.status} in MLflow, but {record.status} here")
        for path in (folder / "counts").glob(f"{run_id}.*"):
            writer, count = path.suffix[1:], counted(path)
            places = {
                "the store": local_points(folder, run_id, writer) if count else [],
                "MLflow": mlflow_points(uri, of_run[0].info.run_id, writer) if count else [],
                "TensorBoard": board_points(folder, run_id, writer) if count else [],
            }
            for place, points in places.items():
                steps = Counter(step for step, _ in points)
                lost = sum(step not in steps for step in range(count))
                doubled = sum(times - 1 for times in steps.values())
                found[f"lost in {place}"] += lost
                found[f"doubled in {place}"] += doubled
                if lost or doubled:
                    print(f"{place}: {run_id} {writer}: of {count} lost {lost}, doubled {doubled}")
        for name, one in report(run_folder).items():
            found[f"pending at {name}"] += one.pending
            found[f"rejected at {name}"] += one.rejected
    return +found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a shell it is ignored
    with tempfile.TemporaryDirectory(prefix="mlobs-soak-", ignore_cleanup_errors=True) as name:
        folder, port = Path(name), free_port()
        (folder / "counts").mkdir()
        with mlflow_server(folder, port) as uri, proxied(port, free_port()) as proxy:
            soak = Soak(folder, options.seed, proxy)
            soak.run(options.seconds)
            code = sync(folder)
            found = problems_of(folder, uri, soak.expected)
        events = sum(counted(path) for path in (folder / "counts").iterdir())
        print(
            f"seed {options.seed}, {options.seconds:g} s: {soak.plans} trainings, {events:,} points counted"
        )
        print("ends:", dict(Counter("/".join(sorted(one)) for one in soak.expected.values())))
        print("faults:", dict(soak.faults))
        print("problems:", dict(found) or "none")
        print(f"mlobs sync: exit code {code}")
    return 1 if found or code else 0


if __name__ == "__main__":
    raise SystemExit(main())
