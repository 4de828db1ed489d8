"""Seconds of ingest in this checkout and in another one, over the same generated log.

The claim: what ingest checks and counts does not slow it down. Two versions of a package do not fit in one process, so
each ingest runs in its own. The two checkouts take turns, and the best time of each counts.

    git worktree add ../before COMMIT
    python -m benchmarks.ingest_speed --baseline ../before --rows 10000000
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS_A_FILE = 1_000_000
_ITEM_SKEW = 3
#: Timestamps on each minute of two years, so that some of a user's interactions share one, as in real logs.
_START, _MINUTES = 1_600_000_000, 2 * 365 * 24 * 60


def write_log(folder: Path, rows: int, users: int, items: int) -> None:
    """Write Parquet files with integer ids and seconds, and a catalogue."""
    (folder / "log").mkdir()
    for number, start in enumerate(range(0, rows, ROWS_A_FILE)):
        generator = np.random.default_rng(number)
        count = min(ROWS_A_FILE, rows - start)
        columns = {
            "user_id": generator.integers(0, users, count),
            "item_id": (items * generator.random(count) ** _ITEM_SKEW).astype(np.int64),
            "timestamp": _START + 60 * generator.integers(0, _MINUTES, count),
        }
        pq.write_table(pa.table(columns), folder / "log" / f"part-{number:05d}.parquet")
    titles = pa.table({"item_id": np.arange(items), "title": [f"Title of item {item}" for item in range(items)]})
    pq.write_table(titles, folder / "items.parquet")


def measure(checkout: Path, folder: Path, run: Path, split: str) -> dict[str, float]:
    """Return the seconds of one ingest, from its manifest, and of the whole command."""
    config = folder / "config.yaml"
    config.write_text(
        json.dumps({"data": {"interactions": f"{folder}/log", "items": f"{folder}/items.parquet", "split": split}})
    )
    command = [sys.executable, "-m", "pipeline", "ingest", str(config), "--run-dir", str(run), "--json"]
    start = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"ingest in {checkout} exited with {done.returncode}: {done.stderr[-2000:]}")
    (row,) = json.loads(done.stdout)["stages"]
    return {"ingest": row["seconds"], "command": time.perf_counter() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", type=Path, required=True, help="another checkout of this project")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--split", default="global_time", choices=("global_time", "leave_one_out"))
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    checkouts = {"baseline": options.baseline.resolve(), "ours": Path(__file__).resolve().parents[1]}
    best: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_log(folder, options.rows, options.users, options.items)
        for repeat in range(options.repeats):
            for side, checkout in checkouts.items():
                run = folder / f"run-{side}-{repeat}"
                found = measure(checkout, folder, run, options.split)
                best[side] = min(best.get(side, np.inf), found["ingest"])
                print(side, *(f"{key} {value:.1f} s" for key, value in found.items()), sep="  ", flush=True)
                shutil.rmtree(run)
    print(f"ours / baseline: {best['ours'] / best['baseline']:.3f}")


if __name__ == "__main__":
    main()
