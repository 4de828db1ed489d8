"""A pass over shards by a pool of actors: each shard read, worked on, written and marked by one worker."""

from __future__ import annotations

import json
import math
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Protocol

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy

from cluster.capacity_watch import watched_room
from cluster.dataset_runs import blocks_of
from cluster.errors import UserError
from cluster.progress import Progress
from cluster.resources import PoolPlan
from cluster.shards import (
    WORKER_DEATHS,
    ShardRecord,
    abandon_shard,
    begin_shard,
    count_start,
    finish_shard,
    finished_shard,
    finished_shards,
    forget_starts,
)
from cluster.stop_mark import ShardsInHand, new_stop_mark, stop_mark, stopping
from cluster.stopping import STOP
from cluster.storage import Storage

_FAULT = "fault"
_CRASH = "crash"
_STOPPED = "stopped"
#: That each worker is to get at least, so that all end at about the same time.
_CALLS = 8


class ShardWorker(Protocol):
    """What works on shards: built once in each actor, then called with one shard's number after another."""

    def __call__(self, index: int) -> tuple[pa.Table, Mapping[str, Any]]:
        """The output rows of shard `index`, and small facts for the driver."""


class _ShardActor:
    """Adapts a `ShardWorker` to a Ray Data actor pool; a batch holds the numbers of shards."""

    def __init__(
        self,
        build: Callable[..., ShardWorker],
        arguments: Mapping[str, Any],
        out: Storage,
        mark: str,
        earlier: Mapping[int, int],
    ) -> None:
        self._out = out
        self._mark = mark
        self._work: Callable[[int], str]
        self._earlier = earlier
        self._work = self._finish
        # Ray starts an actor again whose process dies in here, as often as it takes.
        actor = _actor_id()
        try:
            if count_start(out, actor) > WORKER_DEATHS:
                raise _deadly_start(out)
            self._worker = build(**arguments)
        except UserError as error:
            fault = _fault_record(error)
            self._work = lambda _: fault
        except Exception:  # noqa: BLE001 - passed on as it is; Ray would start the actor again here, too
            crash = json.dumps({_CRASH: traceback.format_exc()})
            self._work = lambda _: crash
        forget_starts(out, actor)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        return {"record": [self._work(index) for index in batch["index"].tolist()]}

    def _finish(self, index: int) -> str:
        # Of a call that Ray repeats because its worker has died, some shards may be done.
        done = finished_shard(self._out, index)
        if done is not None:
            return json.dumps(asdict(done))
        if stopping(self._out, self._mark):
            return json.dumps({_STOPPED: index})
        attempt = begin_shard(self._out, index)
        # A driver that stops waits for the shards that it sees begun. It may have looked just before this one was.
        if stopping(self._out, self._mark):
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
        f"A worker of {out.uri} died {WORKER_DEATHS} times before it could begin, as one does that lacks memory.",
        "Give the nodes more memory, or set cluster.actors lower; the same command goes on.",
    )


def _deadly(out: Storage, index: int) -> UserError:
    return UserError(
        f"The worker of shard {index} of {out.uri} died in it {WORKER_DEATHS} times, as one does that lacks memory.",
        "Give the nodes more memory, set cluster.actors lower, or cut the log into more samples.shards; "
        "the same command goes on.",
    )


def _fault_record(error: UserError) -> str:
    """Ray Data keeps only the text of an exception; a fault travels as a result to keep its kind."""
    return json.dumps({_FAULT: [error.message, error.remedy]})


def map_shards(
    build: Callable[..., ShardWorker],
    arguments: Mapping[str, Any],
    indices: Sequence[int],
    out: Storage,
    pool: PoolPlan,
    progress: Progress,
    at_once: int = 1,
) -> list[ShardRecord]:
    """Run a worker over every shard that is not done yet.

    When the driver is told to stop, no shard is begun any more, and those in hand are finished.

    The output of shard k is `out/part-k.parquet`. Whatever the pool's size, the files are the same: a worker
    sees one shard at a time. A worker that dies is replaced by Ray and its shard begun again, five times in all; an
    exception in a worker ends the pass, and what is finished stays finished; a `UserError` comes through as itself.
    So ends a pass for which no living node has had room for `pool.wait_seconds`.

    Parameters
    ----------
    build, arguments : `build(**arguments)` makes a worker inside an actor. Object references among the
        arguments (see `Broadcast`) are fetched there.
    indices : the shards of the whole pass, done or not.
    out : the folder of output files and markers.
    pool : size and shape of the pool.
    progress : told of every finished shard, those of earlier runs included.
    at_once : shards that a worker is given in one call at most, where there are enough of them for all. For work so
        quick that the ten milliseconds show that Ray takes for a call.

    Returns
    -------
    One record a shard, in the order of `indices`. Raises `Stopped` after a request to stop.
    """
    mark = new_stop_mark(out)
    records = finished_shards(out, indices)
    missing = [index for index in indices if index not in records]
    totals = _Totals(records.values())
    progress.update(len(records), len(indices), **totals.facts())
    if missing:
        with stop_mark(out, mark), watched_room(pool.shape, 1, pool.wait_seconds):
            for record in _run(build, arguments, missing, out, mark, pool, at_once):
                records[record.index] = record
                totals.add(record)
                progress.update(len(records), len(indices), **totals.facts())
        STOP.check()
    return [records[index] for index in indices]


class _Totals:
    """What progress shows of finished shards: rows, and those counts that the workers give."""

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
        """Those worth showing: no line for rejected rows where there are none."""
        return {name: value for name, value in self._sums.items() if value or name == "rows"}


def _run(
    build: Callable[..., ShardWorker],
    arguments: Mapping[str, Any],
    indices: Sequence[int],
    out: Storage,
    mark: str,
    pool: PoolPlan,
    at_once: int,
) -> Iterator[ShardRecord]:
    # A row names a shard, so what travels through Ray Data is a few bytes and the data never crosses the driver.
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
            raise RuntimeError(f"a worker could not begin:\n{record[_CRASH]}")
        if _STOPPED in record:
            # The rest would be passed over one by one; what is in hand elsewhere is waited for, and no more.
            in_hand.wait()
            return
        yield ShardRecord(**record)
