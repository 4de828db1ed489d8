"""A pass over shards by a pool of actors: one worker reads, processes, writes and marks each shard."""

from __future__ import annotations

import json
import math
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy

from cluster.capacity_watch import watch_capacity
from cluster.errors import UserError
from cluster.progress import Progress
from cluster.ray_data import blocks_of
from cluster.resources import PoolPlan
from cluster.shards import (
    WORKER_DEATHS,
    ShardFacts,
    ShardRecord,
    abandon_shard,
    begin_shard,
    count_start,
    finish_shard,
    finished_shard,
    finished_shards,
    forget_starts,
)
from cluster.stop_mark import ShardsInHand, new_stop_mark, stop_mark, stop_requested
from cluster.stopping import STOP
from cluster.storage import Storage

_FAULT = "fault"
_CRASH = "crash"
_STOPPED = "stopped"
#: Minimum number of calls per worker, so that all workers finish at about the same time.
_CALLS = 8


class ShardWorker(Protocol):
    """Processes shards. One is built in each actor and called with one shard index after another."""

    def __call__(self, index: int) -> tuple[pa.Table, ShardFacts]:
        """Return the output rows of shard `index`, and small facts for the driver."""


class _ShardActor:
    """Adapts a `ShardWorker` to a Ray Data actor pool, whose batches hold shard indices."""

    def __init__(
        self,
        build: Callable[..., ShardWorker],
        arguments: Mapping[str, object],
        out: Storage,
        mark: str,
        earlier: Mapping[int, int],
    ) -> None:
        self._out = out
        self._mark = mark
        self._work: Callable[[int], str]
        self._earlier = earlier
        self._work = self._finish
        # Ray restarts an actor whose process dies here, without limit.
        actor = _actor_id()
        try:
            if count_start(out, actor) > WORKER_DEATHS:
                raise _deadly_start(out)
            self._worker = build(**arguments)
        except UserError as error:
            fault = _fault_record(error)
            self._work = lambda _: fault
        except Exception:  # noqa: BLE001 - reported as a result; Ray would restart the actor without limit here, too
            crash = json.dumps({_CRASH: traceback.format_exc()})
            self._work = lambda _: crash
        forget_starts(out, actor)

    def __call__(self, batch: Mapping[str, npt.NDArray[np.int64]]) -> dict[str, list[str]]:
        return {"record": [self._work(index) for index in batch["index"].tolist()]}

    def _finish(self, index: int) -> str:
        # Ray may repeat a call whose worker died, so some of its shards may be finished.
        done = finished_shard(self._out, index)
        if done is not None:
            return json.dumps(asdict(done))
        if stop_requested(self._out, self._mark):
            return json.dumps({_STOPPED: index})
        attempt = begin_shard(self._out, index)
        # A stopping driver waits for the shards that it sees started. It may have looked just before this one was.
        if stop_requested(self._out, self._mark):
            abandon_shard(self._out, index, attempt)
            return json.dumps({_STOPPED: index})
        if attempt - self._earlier.get(index, 0) > WORKER_DEATHS:
            return _fault_record(_deadly(self._out, index))
        start = time.perf_counter()
        try:
            table, facts = self._worker(index)
        except UserError as error:
            return _fault_record(error)
        record = finish_shard(self._out, index, table, attempt, facts, time.perf_counter() - start)
        return json.dumps(asdict(record))


def _actor_id() -> str:
    return str(ray.get_runtime_context().get_actor_id())


def _deadly_start(out: Storage) -> UserError:
    return UserError(
        f"A worker of {out.uri} died {WORKER_DEATHS} times before it could start, probably out of memory.",
        "Give the nodes more memory, or lower cluster.actors. Then run the same command again to continue.",
    )


def _deadly(out: Storage, index: int) -> UserError:
    return UserError(
        f"The worker of shard {index} of {out.uri} died {WORKER_DEATHS} times while processing it, probably out of "
        "memory.",
        "Give the nodes more memory, lower cluster.actors, or raise samples.shards to make shards smaller. Then run "
        "the same command again to continue.",
    )


def _fault_record(error: UserError) -> str:
    """Encode a fault as a result: Ray Data keeps only an exception's text, and this preserves its type."""
    return json.dumps({_FAULT: [error.message, error.remedy]})


def map_shards(
    build: Callable[..., ShardWorker],
    arguments: Mapping[str, object],
    indices: Sequence[int],
    out: Storage,
    pool: PoolPlan,
    progress: Progress,
    at_once: int = 1,
) -> list[ShardRecord]:
    """Run a worker over every unfinished shard.

    When the driver is told to stop, no further shard is started, and those in hand are finished.

    The output of shard k is `out/part-k.parquet`. The files do not depend on the pool's size, because a worker sees
    one shard at a time. If a worker dies, Ray replaces it and its shard is restarted, up to five times in all. An
    exception in a worker ends the pass but keeps finished shards; a `UserError` is re-raised as itself. The pass also
    ends if no live node has had room for a worker for `pool.wait_seconds`.

    Parameters
    ----------
    build, arguments : `build(**arguments)` makes a worker inside an actor. Object references among the arguments
        (see `Broadcast`) are fetched there.
    indices : all shards of the pass, finished or not.
    out : folder of output files and markers.
    pool : size and shape of the pool.
    progress : notified of every finished shard, including those of earlier runs.
    at_once : maximum number of shards per call, if there are enough for all workers. Use it for shards so quick that
        Ray's ten milliseconds per call matter.

    Returns
    -------
    One record per shard, in the order of `indices`. Raises `Stopped` after a request to stop.
    """
    mark = new_stop_mark(out)
    records = finished_shards(out, indices)
    missing = [index for index in indices if index not in records]
    totals = _Totals(records.values())
    progress.update(len(records), len(indices), **totals.facts())
    if missing:
        with stop_mark(out, mark), watch_capacity(pool.shape, 1, pool.wait_seconds):
            for record in _run(build, arguments, missing, out, mark, pool, at_once):
                records[record.index] = record
                totals.add(record)
                progress.update(len(records), len(indices), **totals.facts())
        STOP.check()
    return [records[index] for index in indices]


class _Totals:
    """The totals over finished shards that progress shows: rows, and counts reported by the workers."""

    _SHOWN: ClassVar[dict[str, str]] = {"tokens": "tokens", "nonfinite": "rejected"}

    def __init__(self, records: Iterable[ShardRecord]) -> None:
        self._sums: dict[str, int] = {"rows": 0}
        for record in records:
            self.add(record)

    def add(self, record: ShardRecord) -> None:
        self._sums["rows"] += record.rows
        for fact, name in self._SHOWN.items():
            if fact in record.facts:
                self._sums[name] = self._sums.get(name, 0) + record.facts[fact]

    def facts(self) -> dict[str, int]:
        """Return the totals worth showing. Rows always are; other counts only if they are not zero."""
        return {name: value for name, value in self._sums.items() if value or name == "rows"}


def _run(
    build: Callable[..., ShardWorker],
    arguments: Mapping[str, object],
    indices: Sequence[int],
    out: Storage,
    mark: str,
    pool: PoolPlan,
    at_once: int,
) -> Iterator[ShardRecord]:
    # Each row is a shard's index, so only a few bytes travel through Ray Data and no data crosses the driver.
    in_hand = ShardsInHand(out, indices)
    size = min(pool.minimum, len(indices))
    together = min(at_once, max(1, len(indices) // (_CALLS * pool.maximum)))
    calls = math.ceil(len(indices) / together)
    tasks = ray.data.from_items([{"index": index} for index in indices], override_num_blocks=calls)
    done = tasks.map_batches(
        _ShardActor,
        fn_constructor_kwargs={
            "build": build,
            "arguments": dict(arguments),
            "out": out,
            "mark": mark,
            "earlier": in_hand.earlier_attempts,
        },
        batch_size=None,
        batch_format="numpy",
        compute=ActorPoolStrategy(
            min_size=size,
            max_size=max(size, min(pool.maximum, len(indices))),
            max_tasks_in_flight_per_actor=2,
        ),
        num_cpus=pool.shape.cpus,
        num_gpus=pool.shape.gpus,
        memory=pool.shape.memory or None,
    )
    records = (json.loads(text) for block in blocks_of(done) for text in block["record"].to_pylist())
    for record in records:
        if _FAULT in record:
            raise UserError(*record[_FAULT])
        if _CRASH in record:
            raise RuntimeError(f"a worker could not start:\n{record[_CRASH]}")
        if _STOPPED in record:
            # The other shards would be skipped one by one. Wait only for those in hand elsewhere.
            in_hand.wait()
            return
        yield ShardRecord(**record)
