"""The overhead of Ray in influence scoring, and the speed-up from a second worker.

    python -m benchmarks.scoring_pool --interactions LOG --items CATALOGUE --split column

The log's samples are repeated until a pass takes a minute, in as many shards as ingest would make of that many. Four
contenders score them in turn: the stage's own worker called in a plain loop that writes the same files; a pool of one
actor; a pool of two actors, with one thread each; and two processes that each run the loop on half of the shards, which
shows what the machine can do. Only warm work counts: from the moment that every worker has been built and has scored a
shard, to the end of the pass. The bars: one actor takes at most 15% longer than the loop, and two actors do at least
1.7 times the work of one.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load

from benchmarks.contest import verdict
from benchmarks.preparation import log_arguments, prepared
from cluster.broadcast import Broadcast
from cluster.progress import SilentProgress
from cluster.resources import PoolPlan
from cluster.session import ray_session
from cluster.shapes import WorkerShape
from cluster.sharded_map import map_shards
from cluster.shards import ShardFacts, shard_name
from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.engine.graph import StageContext
from pipeline.engine.sample_tables import train_shards
from pipeline.ingest.log_survey import shard_count
from pipeline.stages.influence_passes import InfluenceWorker, Risk
from pipeline.stages.influence_solve import InfluenceSolve
from pipeline.stages.surrogate_source import SHARDS_AT_ONCE, SurrogateSource, trained_surrogate

_OVERHEAD_BAR = 1.15
_SPEEDUP_BAR = 1.7
#: Arguments of `InfluenceWorker`, some of them replaced by `Saved`.
WorkerArguments: TypeAlias = Mapping[str, Any]


class WarmWorker:
    """An `InfluenceWorker` that scores shard 0 when it is built.

    Its facts include the process that scored a shard and its start time in seconds since the epoch.
    """

    def __init__(self, source: SurrogateSource, direction: Broadcast, data: Storage) -> None:
        self._worker = InfluenceWorker(source, direction, data)
        self._worker(0)

    def __call__(self, index: int) -> tuple[pa.Table, ShardFacts]:
        began = time.time()
        table, facts = self._worker(index)
        return table, {**facts, "process": os.getpid(), "began": began}


def repeat_samples(data: Storage, copies: int, out: Storage) -> int:
    """Write a run's train samples `copies` times, in the shards that ingest would make, and return their number."""
    parts = [data.read_table(f"samples/train/{shard_name(index)}.parquet") for index in train_shards(data)]
    table = pa.concat_tables(parts * copies)
    shards = shard_count(table.num_rows, table.num_rows, 1)
    rows = np.random.default_rng(0).permutation(table.num_rows)
    for index in range(shards):
        out.write_table(f"samples/train/{shard_name(index)}.parquet", table.take(np.sort(rows[index::shards])))
    return shards


@dataclass(frozen=True)
class Saved:
    """The saved copy of a `Broadcast`, for processes outside Ray."""

    storage: Storage
    name: str

    def get(self) -> dict[str, npt.NDArray[np.generic]]:
        return load(self.storage.read_bytes(self.name))


def loop_rate(arguments: WorkerArguments, shards: Sequence[int], folder: Storage) -> float:
    """Return the samples per second of one process without Ray."""
    worker = WarmWorker(**arguments)
    os.makedirs(folder.uri)
    rows, started = 0, time.time()
    for index in shards:
        table, _ = worker(index)
        pq.write_table(table, f"{folder.uri}/{shard_name(index)}.parquet", compression="zstd")
        rows += table.num_rows
    return rows / (time.time() - started)


def two_loops_rate(arguments: WorkerArguments, shards: int, folder: Storage) -> float:
    """Return the samples per second of two such processes, each with half of the shards."""
    source = arguments["source"]
    saved = {"source": replace(source, weights=Saved(source.weights.storage, source.weights.name))}
    direction = Saved(arguments["direction"].storage, arguments["direction"].name)
    with ProcessPoolExecutor(2, get_context("spawn")) as processes:
        rates = [
            processes.submit(
                loop_rate,
                {**arguments, **saved, "direction": direction},
                range(half, shards, 2),
                folder.child(str(half)),
            )
            for half in range(2)
        ]
        return sum(rate.result() for rate in rates)


def pool_rate(arguments: WorkerArguments, shards: int, workers: int, folder: Storage) -> float:
    """Return a pool's samples per second from when all its workers are busy until the end of the pass."""
    pool = PoolPlan(workers, workers, WorkerShape())
    records = map_shards(WarmWorker, arguments, range(shards), folder, pool, SilentProgress(), SHARDS_AT_ONCE)
    ended = time.time()
    first: dict[int, float] = {}
    for record in records:
        process, began = record.facts["process"], record.facts["began"]
        first[process] = min(began, first.get(process, began))
    if len(first) != workers:
        raise RuntimeError(f"expected {workers} processes to score, got {len(first)}")
    warm = max(first.values())
    rows = sum(record.rows for record in records if record.facts["began"] >= warm)
    return rows / (ended - warm)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the rates, their ratios and whether the bars are met. Return 0 if both are."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    log_arguments(parser)
    parser.add_argument("--seconds", type=float, default=60.0, help="minimum time of a pass of the plain loop")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=1, help="epochs of the surrogate; they do not affect the times")
    options = parser.parse_args(arguments)
    run = prepared(options, "surrogate", surrogate={"loss": "sampled", "epochs": options.epochs})
    data = run.child("data")
    rates: dict[str, list[float]] = {"loop": [], "two loops": [], "one actor": [], "two actors": []}
    with ray_session("local", cpus=2), tempfile.TemporaryDirectory() as temporary:
        scratch = Storage.at(temporary)
        source = trained_surrogate(run.child("surrogate"), scratch, None)
        plan = PoolPlan(1, 1, WorkerShape())
        config = Config.model_validate({"data": {"interactions": "-"}, "influence": {"solver": "none"}})
        context = StageContext(config, run, scratch, {"ingest": data}, SilentProgress())
        direction = InfluenceSolve(context, source, plan, Risk("train")).solution().direction
        broadcast = Broadcast.put({"direction": direction}, scratch, "direction.safetensors")
        given: WorkerArguments = {"source": source, "direction": broadcast, "data": data}
        count = int(data.read_json("statistics.json")["samples"]["train"])
        copies = math.ceil(options.seconds * loop_rate(given, train_shards(data), scratch.child("tried")) / count)
        given = {**given, "data": scratch.child("data")}
        shards = repeat_samples(data, copies, given["data"])
        print(f"{count:,} samples repeated {copies} times, {shards} shards", flush=True)
        for repeat in range(options.repeats):
            contenders: dict[str, Callable[[Storage], float]] = {
                "loop": partial(loop_rate, given, range(shards)),
                "two loops": partial(two_loops_rate, given, shards),
                "one actor": partial(pool_rate, given, shards, 1),
                "two actors": partial(pool_rate, given, shards, 2),
            }
            for name, contender in contenders.items():
                rate = contender(scratch.child(f"{repeat} {name}"))
                rates[name].append(rate)
                print(f"{name:10s} {rate:,.0f} samples/s", flush=True)
    overhead = statistics.median(loop / one for loop, one in zip(rates["loop"], rates["one actor"], strict=True))
    speedup = statistics.median(two / one for two, one in zip(rates["two actors"], rates["one actor"], strict=True))
    machine = statistics.median(two / one for two, one in zip(rates["two loops"], rates["loop"], strict=True))
    print(f"two loops' rate over one loop's (the machine's limit): {machine:.3f}")
    print(verdict("one actor's time over the loop's", overhead, f"<= {_OVERHEAD_BAR}", overhead <= _OVERHEAD_BAR))
    print(verdict("two actors' rate over one's", speedup, f">= {_SPEEDUP_BAR}", speedup >= _SPEEDUP_BAR))
    return 0 if overhead <= _OVERHEAD_BAR and speedup >= _SPEEDUP_BAR else 1


if __name__ == "__main__":
    raise SystemExit(main())
