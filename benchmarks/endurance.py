"""Whether memory stays flat over ten million points: that of the training process and of its sender.

In the one weather TensorBoard takes the points as fast as it can, in the other the server never
answers, and the backlog has to lie on the disk. Memory is read at each tenth of the way.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import mlobs
from measuring import Process, Senders, heading, note, part, resident_mb, scratch, show

LOOK_S = 0.5
GROWTH_MB = (
    30.0  # from the first tenth to the last: caches of the allocator, not points (10 million take 640 MB)
)
NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="200,000 points")
    parser.add_argument("--part", nargs=3, metavar=("NAME", "POINTS", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        name, points, folder = options.part
        print(json.dumps(train(name, int(points), Path(folder))))
        return
    points = 200_000 if options.quick else 10_000_000
    heading(f"endurance: {points:,} points of one run")
    for name in ("delivered", "backlog"):
        compare(name, points)


def compare(name: str, points: int) -> None:
    with scratch() as folder:
        process = Process(part(__file__, name, points, folder), MLOBS_LINGER_S="0")
        senders, sender_mb = Senders(), []
        while not process.has_ended():
            senders.look([process.pid])
            sender_mb += [_resident_mb(pid) for pid in senders.alive()]
            time.sleep(LOOK_S)
        answer = process.wait().answer
    note(f"{name}: points delivered {answer['delivered']:,}, waiting on the disk {answer['pending']:,}")
    tenths = answer["resident_mb"]
    show("trainer: resident memory at the first tenth", tenths[0], "MB")
    show("  growth from there to the end", tenths[-1] - tenths[0], "MB", GROWTH_MB)
    show("sender: resident memory, most", max(sender_mb), "MB")
    middle = len(sender_mb) // 2  # the vendor has been imported by then
    show(
        "  growth from the middle to the most after it",
        max(sender_mb[middle:]) - sender_mb[middle],
        "MB",
        GROWTH_MB,
    )
    show("journal: bytes a point", answer["journal_bytes"] / points, "B")


def train(name: str, points: int, folder: Path) -> dict[str, object]:
    """Record the points, and wait until they are delivered, if they can be."""
    backends = {
        "delivered": [mlobs.backends.TensorBoard(str(folder / "board"))],
        "backlog": [mlobs.backends.MLflow(NOWHERE)],
    }
    wait_s = 3600.0 if name == "delivered" else 5.0
    tracker = mlobs.Tracker(
        "endurance", store=folder / "store", backends=backends[name], finish_timeout_s=wait_s
    )
    resident = []
    with tracker.start_run() as run:
        for tenth in range(10):
            for step in range(tenth * points // 10, (tenth + 1) * points // 10):
                run.log_metric("loss", 0.5, step=step)
            resident.append(resident_mb())
    (report,) = run.delivery().values()
    journal_bytes = sum(path.stat().st_size for path in (folder / "store").rglob("*.journal"))
    return {
        "resident_mb": resident,
        "delivered": report.delivered,
        "pending": report.pending,
        "journal_bytes": journal_bytes,
    }


def _resident_mb(pid: int) -> float:
    """Resident memory of a process without the pages of files that it has mapped."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    except OSError:  # it has ended
        return 0.0
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
