"""What it costs to capture the code of a run: a repository of 7,653 files, 100 MB, with some edits."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

from measuring import heading, load, note, scratch, show, spread

FILES, BYTES = 7_653, 100_000_000  # of the repository that the design was measured with
WORDS = [f"word_{number}" for number in range(3000)]
TARGET_S = 0.5
SCAN_MB_PER_S = 50.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the files, fewer repetitions")
    options = parser.parse_args()
    files, repetitions = (FILES // 10, 3) if options.quick else (FILES, 11)
    with scratch() as folder:
        os.environ.update(HOME=str(folder), GIT_CONFIG_NOSYSTEM="1")
        root = make_repository(folder / "project", files)
        heading(
            f"code_snapshot: {files:,} files, {files * BYTES / FILES / 1e6:.0f} MB, medians of {repetitions}"
        )
        clean = show_snapshots("  clean", root, folder, repetitions, TARGET_S)
        make_edits(root)
        dirty = show_snapshots(
            "  20 edits, 6 new files, 3 gone, a link, a mode", root, folder, repetitions, TARGET_S
        )
        subprocess.run(["git", "remote", "remove", "origin"], cwd=root, check=True)
        whole = show_snapshots("  the same, no remote: a whole pack, all of it searched", root, folder, 3)
        shutil.rmtree(root / ".git")
        plain = show_snapshots("  the same, without git", root, folder, 3)
        assert clean != dirty == whole == plain
        show_scan(root)


def show_snapshots(
    what: str, root: Path, folder: Path, repetitions: int, target_s: float | None = None
) -> str:
    from mlobs.repro.code import snapshot_code

    seconds, cpu_s, pack_bytes, tree = [], [], 0, ""
    calls = count_calls()
    for number in range(repetitions):
        before, before_cpu = perf_counter(), os.times()
        snapshot = snapshot_code(root, scratch=folder / f"scratch-{number}")
        seconds.append(perf_counter() - before)
        cpu_s.append(sum(os.times()[:4]) - sum(before_cpu[:4]))
        tree, pack_bytes = snapshot.roots[0].tree, snapshot.roots[0].pack_bytes
        shutil.rmtree(folder / f"scratch-{number}")
    show(what, median(seconds), "s", target_s)
    note(f"    {spread(seconds)}")
    note(f"    CPU {median(cpu_s):.2f} s, git's own included; {load()}")
    note(f"    {len(calls) // repetitions} calls of git; pack {pack_bytes:,} B")
    calls.clear()
    return tree


def count_calls() -> list[object]:
    """Take note of every process that is started from here on."""
    calls: list[object] = []
    sys.addaudithook(
        lambda event, arguments: calls.append(arguments) if event == "subprocess.Popen" else None
    )
    return calls


def show_scan(root: Path) -> None:
    from mlobs.repro.code_secrets import holds_secret

    contents = [path.read_bytes() for path in root.rglob("*.py")]
    before = perf_counter()
    hits = sum(holds_secret(content, b"a.py") for content in contents)
    seconds = perf_counter() - before
    size_mb = sum(map(len, contents)) / 1e6
    show("  search for secrets", size_mb / seconds, "MB/s")
    note(f"    at least {SCAN_MB_PER_S:g} MB/s is aimed at; {hits} hits in {size_mb:.0f} MB")


def make_repository(root: Path, files: int) -> Path:
    chance = random.Random(7)
    for number in range(files):
        path = root / f"package_{number % 40}" / f"part_{number % 700}" / f"module_{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = (f"{chance.choice(WORDS)} = {chance.choice(WORDS)}({chance.random()})" for _ in range(300))
        path.write_text("\n".join(lines)[: BYTES // FILES] + "\n")
    remote = root.with_name("remote.git")
    subprocess.run(["git", "init", "-q", "--bare", str(remote)], check=True)
    for command in (
        "init -q -b main",
        "add -A",
        "commit -qm one",
        f"remote add origin {remote}",
        "push -q origin main",
    ):
        who = ["-c", "user.name=bench", "-c", "user.email=bench@example.org"]
        subprocess.run(["git", *who, *command.split()], cwd=root, check=True)
    return root


def make_edits(root: Path) -> None:
    modules = sorted(root.rglob("*.py"))
    for path in modules[:20]:
        path.write_text(path.read_text() + "edited = True\n")
    for number in range(6):
        (root / f"new_{number}.py").write_text("new = True\n")
    (root / "random.bin").write_bytes(random.Random(1).randbytes(300_000))
    for path in modules[-3:]:
        path.unlink()
    (root / "link").symlink_to("new_0.py")
    modules[30].chmod(0o755)


if __name__ == "__main__":
    main()
