"""Completion records: one input shard, one output file, one done marker, written in that order.

A run that is killed loses the shard in hand and nothing else. Row-level bookkeeping would need every id in
memory; a marker a shard needs none.
"""

from __future__ import annotations

import contextlib
import io
import resource
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.digest import digest
from cluster.storage import Storage

#: A worker that has died so often in the same place would die there again.
WORKER_DEATHS = 5


@dataclass(frozen=True)
class ShardRecord:
    """What is known of one finished output file.

    Attributes
    ----------
    index : the shard's number.
    rows : rows in the output file.
    digest : BLAKE2b of the file's bytes.
    attempt : how often the shard was begun, this time included: 1 unless a worker or driver died in it.
    facts : counts and sums that the stage wants back, small and JSON.
    seconds : that the worker took for it.
    memory : bytes that the worker's process ever held until then.
    """

    index: int
    rows: int
    digest: str
    attempt: int
    facts: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    memory: int = 0


def shard_name(index: int) -> str:
    return f"part-{index:05d}"


def begin_shard(out: Storage, index: int) -> int:
    """Count the attempt at a shard before any work is done, so that a death in it leaves a trace."""
    name = f"_shards/{shard_name(index)}.attempt"
    attempt = int(out.read_text(name)) + 1 if out.exists(name) else 1
    out.write_text(name, str(attempt))
    return attempt


def abandon_shard(out: Storage, index: int, attempt: int) -> None:
    """Take back an attempt that was counted and in which nothing was done."""
    name = f"_shards/{shard_name(index)}.attempt"
    if attempt == 1:
        out.delete(name)
    else:
        out.write_text(name, str(attempt - 1))


def count_start(out: Storage, worker: str) -> int:
    """How often the worker of this name has begun to start, this time included, without having come to an end of it."""
    name = f"_starts/{worker}"
    starts = int(out.read_text(name)) + 1 if out.exists(name) else 1
    out.write_text(name, str(starts))
    return starts


def forget_starts(out: Storage, worker: str) -> None:
    """It has started."""
    out.delete(f"_starts/{worker}")


def finish_shard(
    out: Storage, index: int, table: pa.Table, attempt: int, facts: Mapping[str, Any], seconds: float = 0.0
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
    """What a pass cost its workers: `busy_seconds` of all of them together, and `peak_memory` (bytes) of one."""
    listed = list(records)
    return {
        "busy_seconds": sum(record.seconds for record in listed),
        "peak_memory": max((record.memory for record in listed), default=0),
    }


def peak_memory() -> int:
    """Bytes that this process ever held in memory."""
    # Linux counts in KiB, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def attempts_at(out: Storage, indices: Sequence[int]) -> dict[int, int]:
    """How often each of the shards was begun, those that never were left out."""
    names = {f"{shard_name(index)}.attempt": index for index in indices}
    attempts: dict[int, int] = {}
    for name in out.list("_shards", suffix=".attempt"):
        if name in names:
            # A worker may just be taking it back.
            with contextlib.suppress(FileNotFoundError):
                attempts[names[name]] = int(out.read_text(f"_shards/{name}"))
    return attempts


def finished_shard(out: Storage, index: int) -> ShardRecord | None:
    """The record of one shard, or None while it is not done."""
    marker = f"_shards/{shard_name(index)}.json"
    if not out.exists(marker) or not out.exists(f"{shard_name(index)}.parquet"):
        return None
    return ShardRecord(**out.read_json(marker))


def finished_shards(out: Storage, indices: Sequence[int]) -> dict[int, ShardRecord]:
    """The records of those shards that are done: a marker with its file beside it."""
    wanted = {f"{shard_name(index)}.json": index for index in indices}
    files = set(out.list(suffix=".parquet"))
    records: dict[int, ShardRecord] = {}
    for name in out.list("_shards", suffix=".json"):
        index = wanted.get(name)
        if index is not None and f"{shard_name(index)}.parquet" in files:
            records[index] = ShardRecord(**out.read_json(f"_shards/{name}"))
    return records
