"""Memory of the influence stage by number of samples: the largest worker and the driver, on real Ray.

    python -m benchmarks.influence_memory --users 50000 500000

Each size is a synthetic log (one sample per user, Zipf popularity) that goes through ingest and one epoch of the
surrogate. Then only the influence stage is watched. The bar: memory stays flat from 50 thousand to 500 thousand
samples. Time, which has to grow with the samples, is printed too.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.driver.run_directory import RunOptions, open_run, run_stages
from pipeline.engine.config import Config, InfluenceConfig
from pipeline.engine.manifest import read_manifest

_MEBIBYTE = 2**20


def write_log(path: Path, users: int, items: int, seed: int = 0) -> None:
    """Write a log with 4 to 12 interactions per user, of which leave-one-out holds out the last two."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(4, 13, size=users)
    weight = 1.0 / np.arange(1, items + 1)
    item = generator.choice(items, size=int(lengths.sum()), p=weight / weight.sum())
    user = np.repeat(np.arange(users), lengths)
    time_ = np.arange(len(user))
    names = np.array([f"item {number}" for number in range(items)])
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"user_id": user, "item_id": item, "timestamp": time_, "title": names[item]}), path)


class Watch:
    """Records the largest unique memory, in bytes, of this process and of any Ray worker below it."""

    def __init__(self, interval: float = 0.2) -> None:
        self.driver = self.worker = 0
        self._interval = interval
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        me = psutil.Process(os.getpid())
        while not self._done.wait(self._interval):
            self.driver = max(self.driver, _unique(me))
            for process in me.children(recursive=True):
                try:
                    if process.name().startswith("ray::"):
                        self.worker = max(self.worker, _unique(process))
                except psutil.Error:
                    continue


def _unique(process: psutil.Process) -> int:
    """Return memory that the process shares with no other. The object store's pages do not count as a worker's."""
    return int(process.memory_full_info().uss)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", default=[50_000, 500_000])
    parser.add_argument("--items", type=int, default=5000)
    parser.add_argument("--solver", default=InfluenceConfig().solver)
    parser.add_argument("--runs", default="runs/benchmarks")
    options = parser.parse_args(arguments)
    rows = []
    for users in options.users:
        folder = Path(options.runs) / f"memory-{users}"
        if not (folder / "log.parquet").exists():
            write_log(folder / "log.parquet", users, options.items)
        config = Config.model_validate(
            {
                "data": {"interactions": str(folder / "log.parquet"), "split": "leave_one_out"},
                "surrogate": {"epochs": 1, "loss": "sampled", "valid_users": 1000},
                "influence": {"solver": options.solver},
            }
        )
        run = open_run(str(folder / "run"))
        run_stages(config, run, RunOptions(last="surrogate"))
        started = time.perf_counter()
        with Watch() as watch:
            run_stages(config, run, RunOptions(first="influence", last="influence"))
        manifest = read_manifest(run.child("scores", "influence"))
        assert manifest is not None
        rows.append((manifest.facts["rows"], watch.worker, watch.driver, time.perf_counter() - started))
    print(f"{'samples':>10s} {'worker MiB':>11s} {'driver MiB':>11s} {'seconds':>8s}")
    for samples, worker, driver, seconds in rows:
        print(f"{samples:10,d} {worker / _MEBIBYTE:11,.0f} {driver / _MEBIBYTE:11,.0f} {seconds:8.1f}")
    growth = [rows[-1][column] / rows[0][column] for column in (1, 2)]
    print(f"from first to last: worker {growth[0]:.2f} times, driver {growth[1]:.2f} times (bar: flat)")


if __name__ == "__main__":
    main()
