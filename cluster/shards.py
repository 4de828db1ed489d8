"""Completion records: for each input shard, an output file and then a marker that it is complete.

A run that is killed loses only the shards in hand. Row-level bookkeeping would need every id in memory; one marker
per shard does not.
"""

from __future__ import annotations

import contextlib
import io
import resource
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.digest import digest
from cluster.storage import Storage

#: A worker that has died this often in the same place would die there again.
WORKER_DEATHS = 5
#: Counts, sums and names that a worker reports about a shard, as JSON values. Each stage knows the keys of its own.
ShardFacts: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class ShardRecord:
    """A record of one finished output file.

    Attributes
    ----------
    index : index of the shard.
    rows : number of rows in the output file.
    digest : BLAKE2b digest of the file's bytes.
    attempt : number of attempts, including this one: 1 unless a worker or driver died during the shard.
    facts : small JSON values that the stage needs from the worker, such as counts and sums.
    seconds : time that the worker took.
    memory : peak memory of the worker's process so far, in bytes.
    """

    index: int
    rows: int
    digest: str
    attempt: int
    facts: ShardFacts = field(default_factory=dict)
    seconds: float = 0.0
    memory: int = 0


def shard_name(index: int) -> str:
    return f"part-{index:05d}"


def begin_shard(out: Storage, index: int) -> int:
    """Record and return an attempt at a shard before any work is done, so that a death during it leaves a trace."""
    name = f"_shards/{shard_name(index)}.attempt"
    attempt = int(out.read_text(name)) + 1 if out.exists(name) else 1
    out.write_text(name, str(attempt))
    return attempt


def abandon_shard(out: Storage, index: int, attempt: int) -> None:
    """Withdraw an attempt in which nothing was done."""
    name = f"_shards/{shard_name(index)}.attempt"
    if attempt == 1:
        out.delete(name)
    else:
        out.write_text(name, str(attempt - 1))


def count_start(out: Storage, worker: str) -> int:
    """Record and return the number of times that a worker of this name has tried to start without succeeding."""
    name = f"_starts/{worker}"
    starts = int(out.read_text(name)) + 1 if out.exists(name) else 1
    out.write_text(name, str(starts))
    return starts


def forget_starts(out: Storage, worker: str) -> None:
    """Clear a worker's count once it has started."""
    out.delete(f"_starts/{worker}")


def finish_shard(
    out: Storage, index: int, table: pa.Table, attempt: int, facts: ShardFacts, seconds: float = 0.0
) -> ShardRecord:
    """Write the output file, then the marker that makes it count."""
    buffer = io.BytesIO()
    pq.write_table(table.combine_chunks(), buffer, compression="zstd")
    data = buffer.getvalue()
    out.write_bytes(f"{shard_name(index)}.parquet", data)
    record = ShardRecord(index, table.num_rows, digest(data), attempt, dict(facts), seconds, peak_memory())
    out.write_json(f"_shards/{shard_name(index)}.json", asdict(record))
    return record


def pass_cost(records: Iterable[ShardRecord]) -> dict[str, float]:
    """Return a pass's cost: `busy_seconds` summed over workers, and `peak_memory` (bytes) of the largest worker."""
    listed = list(records)
    return {
        "busy_seconds": sum(record.seconds for record in listed),
        "peak_memory": max((record.memory for record in listed), default=0),
    }


def peak_memory() -> int:
    """Return the peak memory of this process in bytes."""
    # Linux counts in KiB, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def attempts_at(out: Storage, indices: Sequence[int]) -> dict[int, int]:
    """Return the number of attempts at each shard, omitting shards never attempted."""
    names = {f"{shard_name(index)}.attempt": index for index in indices}
    attempts: dict[int, int] = {}
    for name in out.list("_shards", suffix=".attempt"):
        if name in names:
            # A worker may be withdrawing it at this moment.
            with contextlib.suppress(FileNotFoundError):
                attempts[names[name]] = int(out.read_text(f"_shards/{name}"))
    return attempts


def finished_shard(out: Storage, index: int) -> ShardRecord | None:
    """Return the record of a shard, or None if it is not finished."""
    marker = f"_shards/{shard_name(index)}.json"
    if not out.exists(marker) or not out.exists(f"{shard_name(index)}.parquet"):
        return None
    return ShardRecord(**out.read_json(marker))


def finished_shards(out: Storage, indices: Sequence[int]) -> dict[int, ShardRecord]:
    """Return the records of finished shards, which have both a marker and an output file."""
    wanted = {f"{shard_name(index)}.json": index for index in indices}
    files = set(out.list(suffix=".parquet"))
    records: dict[int, ShardRecord] = {}
    for name in out.list("_shards", suffix=".json"):
        index = wanted.get(name)
        if index is not None and f"{shard_name(index)}.parquet" in files:
            records[index] = ShardRecord(**out.read_json(f"_shards/{name}"))
    return records
