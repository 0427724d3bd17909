"""What a call costs while the backend is healthy, refuses, hangs or is slow, beside MLflow's own client."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TypeAlias

from measuring import Process, heading, load, note, part, percentile, scratch, show, wait_for_all

WEATHERS = ("healthy", "refuses", "hangs", "slow")
PACE_S = 0.0005  # of busy work between two calls: a call never follows the one before in the caches
SLOW_S = 1.0  # what the slow server takes for each answer
FLOOR_US, LONGEST_MS = 60.0, 20.0  # the targets: p99.9 at most twice that of the healthy run, or this
CLIENT_SETTINGS = {  # of its own 120 s and 7 retries, a call would take a quarter of an hour
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}

Figures: TypeAlias = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1 round of 1,000 calls")
    parser.add_argument("--part", nargs=4, metavar=("NAME", "URI", "CALLS", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        name, uri, calls, folder = options.part
        print(json.dumps(PARTS[name](uri, int(calls), Path(folder))))
    elif options.quick:
        compare(rounds=1, calls=1_000)
    else:
        compare(rounds=9, calls=5_000)


def compare(*, rounds: int, calls: int) -> None:
    heading(f"outage: {rounds} interleaved rounds of {calls:,} calls of log_metric in each weather")
    found: dict[str, list[Figures]] = {weather: [] for weather in WEATHERS}
    with scratch() as folder, server(folder) as uri, weathers(uri) as addresses:
        for number in range(rounds):
            order = WEATHERS if number % 2 else tuple(reversed(WEATHERS))
            for weather in order:
                found[weather].append(measure("mlobs", addresses[weather], calls))
        os.environ["MLFLOW_RUN_ID"] = str(measure("client run", uri, 0)["run_id"])
        clients = {weather: measure("client", addresses[weather], 3) for weather in WEATHERS}
    report(found, clients)


def measure(name: str, uri: str, calls: int) -> Figures:
    """Run one program, and wait until its sender has ended too."""
    settings = (
        CLIENT_SETTINGS if name.startswith("client") else {"MLOBS_LINGER_S": "0", "MLOBS_HANG_TIMEOUT_S": "5"}
    )
    with scratch() as folder:
        process = Process(part(__file__, name, uri, calls, folder), cwd=folder, **settings)
        wait_for_all([process])
        return process.wait().answer


def report(found: dict[str, list[Figures]], clients: dict[str, Figures]) -> None:
    note(load())
    healthy = [one["p999_us"] for one in found["healthy"]]
    for weather in WEATHERS:
        rounds = found[weather]
        tails = [one["p999_us"] for one in rounds]
        allowed = None if weather == "healthy" else max(2 * median(healthy), FLOOR_US)
        show(f"{weather}: log_metric, p50", median(one["p50_us"] for one in rounds), "us")
        show(f"{weather}: log_metric, p99.9, median of the rounds", median(tails), "us", allowed)
        pairs = [tail / beside for tail, beside in zip(tails, healthy, strict=True)]
        show(f"{weather}: p99.9 / p99.9 while healthy, median of the pairs", median(pairs), "x")
        longest = [one["longest_ms"] for one in rounds]
        show(f"{weather}: longest call, median of the rounds", median(longest), "ms", LONGEST_MS)
        note(f"  the rounds' longest: {' '.join(f'{one:.2f}' for one in sorted(longest))} ms")
    note(f"MlflowClient.log_metric in the same weather, 3 calls, with {CLIENT_SETTINGS}:")
    for weather, one in clients.items():
        show(f"{weather}: a call, median", one["p50_us"] / 1e3, "ms")
        show(f"{weather}: calls that raised", one["raised"], "")


# The weather


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """Run MLflow's own server on 127.0.0.1."""
    port = _free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/server.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **quiet}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _await_server(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its workers are processes of their own
        process.wait()


def _await_server(port: int) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            return
        time.sleep(0.2)
    raise TimeoutError("MLflow's server does not come up")


@contextlib.contextmanager
def weathers(uri: str) -> Iterator[dict[str, str]]:
    """Give an address for each weather: the server's own, and ways to it that do not work well."""
    with _listener() as hanging, _listener() as slow:  # the hanging one accepts, and never answers
        upstream = int(uri.rpartition(":")[2])
        threading.Thread(target=_relay_all, args=(slow, upstream), daemon=True).start()
        yield {
            "healthy": uri,
            "refuses": f"http://127.0.0.1:{_free_port()}",
            "hangs": f"http://127.0.0.1:{hanging.getsockname()[1]}",
            "slow": f"http://127.0.0.1:{slow.getsockname()[1]}",
        }


def _listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=256)


def _relay_all(listener: socket.socket, upstream: int) -> None:
    with contextlib.suppress(OSError):  # the listener was closed: the benchmark is over
        while True:
            client, _ = listener.accept()
            there = socket.create_connection(("127.0.0.1", upstream))
            threading.Thread(target=_relay, args=(client, there, 0.0), daemon=True).start()
            threading.Thread(target=_relay, args=(there, client, SLOW_S), daemon=True).start()


def _relay(source: socket.socket, target: socket.socket, delay_s: float) -> None:
    with contextlib.suppress(OSError):  # one side has gone
        while chunk := source.recv(1 << 16):
            time.sleep(delay_s)
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# The parts, each in a process of its own


def mlobs_calls(uri: str, calls: int, folder: Path) -> Figures:
    import mlobs

    tracker = mlobs.Tracker(
        "outage", store=folder / "store", backends=[mlobs.backends.MLflow(uri)], finish_timeout_s=0
    )
    with tracker.start_run() as run:
        taken = _timed(calls, lambda step: run.log_metric("loss", 0.5, step=step))
    return _figures(taken)


def client_calls(uri: str, calls: int, _folder: Path) -> Figures:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client, raised = MlflowClient(uri), 0

    def call(step: int) -> None:
        nonlocal raised
        try:
            client.log_metric(os.environ["MLFLOW_RUN_ID"], "loss", 0.5, step=step)
        except MlflowException:  # it would have ended the training
            raised += 1

    return {**_figures(_timed(calls, call)), "raised": raised}


def client_run(uri: str, _calls: int, _folder: Path) -> dict[str, str]:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    return {"run_id": client.create_run(client.create_experiment("client")).info.run_id}


def _timed(calls: int, call) -> list[float]:  # noqa: ANN001 - a function of the step
    taken = []
    for step in range(calls):
        until = perf_counter() + PACE_S
        while perf_counter() < until:
            pass
        before = perf_counter()
        call(step)
        taken.append(perf_counter() - before)
    return taken


def _figures(taken: list[float]) -> Figures:
    return {
        "p50_us": percentile(taken, 50) * 1e6,
        "p999_us": percentile(taken, 99.9) * 1e6,
        "longest_ms": max(taken) * 1e3,
    }


PARTS = {"mlobs": mlobs_calls, "client": client_calls, "client run": client_run}


if __name__ == "__main__":
    main()
