"""Write the files of shards from their interactions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import ray

from cluster.shards import shard_name
from cluster.storage import Storage
from pipeline.ingest.ingest_spec import PARTS, SplitName
from pipeline.ingest.samples import SampleRules, build_tables
from pipeline.ingest.sequences import order_log
from pipeline.ingest.splits import TimeCuts, assign_splits
from pipeline.ingest.statistics import shard_facts

#: The folder of histories that no stage reads. Its underscore says that it is no output on which results depend.
UNTOLD = "_untold"


@dataclass(frozen=True)
class ShardWriter:
    """Writes the shards of a block; picklable, so that tasks can hold one."""

    out: Storage
    split: SplitName
    rules: SampleRules
    cuts: TimeCuts | None

    def write_block(self, block: pa.Table, item_keys: npt.NDArray[np.uint64]) -> pa.Table:
        """Write every shard that a block holds whole; return one row of counts per shard."""
        block = block.combine_chunks()
        shard = block["shard"].to_numpy()
        order = np.argsort(shard, kind="stable")
        numbers, begins = np.unique(shard[order], return_index=True)
        ends = np.append(begins[1:], len(order))
        facts = [self.facts_schema(block).empty_table()]
        for number, begin, end in zip(numbers.tolist(), begins.tolist(), ends.tolist(), strict=True):
            facts.append(self.write_shard(number, block.take(pa.array(order[begin:end])), item_keys))
        return pa.concat_tables(facts)

    def write_shard(self, shard: int, interactions: pa.Table, item_keys: npt.NDArray[np.uint64]) -> pa.Table:
        """Write the files of one shard, which may be empty; return its counts as one row."""
        name = f"{shard_name(shard)}.parquet"
        ordered = order_log(interactions, item_keys)
        splits = assign_splits(ordered, self.split, self.cuts)
        tables = build_tables(ordered, splits, self.rules)
        self.out.write_table(f"sequences/{name}", tables.sequences)
        for part, table in zip(PARTS, (tables.train, tables.valid, tables.test), strict=True):
            self.out.write_table(f"samples/{part}/{name}", table)
        if tables.untold.num_rows:
            self.out.write_table(f"{UNTOLD}/{name}", tables.untold)
        return pa.table(shard_facts(shard, ordered, splits, tables))

    def facts_schema(self, block: pa.Table) -> pa.Schema:
        """Return the columns of the counts, which are the same for every shard."""
        ordered = order_log(block.slice(0, 0), np.empty(0, np.uint64))
        splits = np.empty(0, np.int8)
        return pa.table(shard_facts(0, ordered, splits, build_tables(ordered, splits, self.rules))).schema


def write_shards(block: pa.Table, writer: ShardWriter, item_keys: ray.ObjectRef) -> pa.Table:
    """Call `ShardWriter.write_block` with the keys of the items from the object store."""
    return writer.write_block(block, ray.get(item_keys))


def drop_duplicates(block: pa.Table) -> pa.Table:
    """Drop exact duplicates from a block of whole shards."""
    # It does not matter which of the duplicates comes first, so any keys will do.
    any_keys = np.zeros(int(pc.max(block["item"]).as_py() or 0) + 1, dtype=np.uint64)
    return block.take(pa.array(order_log(block, any_keys).rows))
