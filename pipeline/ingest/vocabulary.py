"""The item vocabulary: the items, their indices and their titles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import UserError
from pipeline.engine.wording import counted
from pipeline.ingest.values.spelling import mismatch, shown_id

_MERGE_AT = 1 << 20
_SHOWN = 5
#: Returns which of the titles are too long for the model that reads them, bool [n].
IsLong = Callable[[Sequence[str]], npt.NDArray[np.bool_]]
_FIELDS = [("item", pa.string()), ("title", pa.string()), ("other", pa.string()), ("count", pa.int64())]


@dataclass(frozen=True)
class Vocabulary:
    """Items ordered by their ids as text: the item in row r has index r + 1, and 0 is padding.

    Attributes
    ----------
    item_ids, titles : the ids and the titles, string [V] each.
    in_log, in_catalogue : the number of items in the log and in the catalogue.
    dropped_items : the number of items of the log left out because they have no title.
    dropped_interactions : the number of their interactions.
    catalogue_without_title : the number of items only in the catalogue left out because they have no title.
    below_least : the number of items left out because they have too few interactions.
    long_items, long_interactions : the number of items left out because their titles are too long, and of their
        interactions.
    """

    item_ids: pa.Array
    titles: pa.Array
    in_log: int
    in_catalogue: int
    dropped_items: int
    dropped_interactions: int
    catalogue_without_title: int
    below_least: int = 0
    long_items: int = 0
    long_interactions: int = 0

    def __len__(self) -> int:
        return len(self.item_ids)


def count_items(block: pa.Table) -> pa.Table:
    """Return one row per item of a block: item, its least and its greatest title, and its count.

    The titles are null if the item has none.
    """
    if "title" not in block.column_names:
        counts = pc.value_counts(block["item"].combine_chunks())
        items, count = counts.field(0), counts.field(1)
        return _fields(items, pa.nulls(len(items), pa.string()), pa.nulls(len(items), pa.string()), count)
    merged = block.group_by("item").aggregate([("title", "min_max"), ([], "count_all")])
    least, greatest = merged["title_min_max"].combine_chunks().flatten()
    return _fields(merged["item"], least, greatest, merged["count_all"])


def _fields(*columns: pa.Array | pa.ChunkedArray | npt.NDArray[np.int64]) -> pa.Table:
    return pa.table(list(columns), names=[name for name, _ in _FIELDS])


def item_titles(rows: pa.Table) -> pa.Table:
    """Bring the titles of a catalogue (item, title, one or more rows per item) into the form of `count_items`."""
    return _merge(_fields(rows["item"], rows["title"], rows["title"], np.zeros(len(rows), np.int64)))


def merge_counts(tables: Iterable[pa.Table], merge_at: int = _MERGE_AT) -> pa.Table:
    """Sum many blocks as they come, so that memory grows with the vocabulary, not with the log.

    A merge takes at least `merge_at` rows.
    """
    total = pa.schema(_FIELDS).empty_table()
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += table.num_rows
        if rows > max(merge_at, total.num_rows):
            total, waiting, rows = _merge(pa.concat_tables([total, *waiting])), [], 0
    return _merge(pa.concat_tables([total, *waiting]))


def _merge(pairs: pa.Table) -> pa.Table:
    """Add counts; of several titles of one item take the least, so that file order never matters."""
    merged = pa.TableGroupBy(pairs, "item").aggregate([("title", "min"), ("other", "max"), ("count", "sum")])
    return _fields(*(merged[name] for name in ("item", "title_min", "other_max", "count_sum")))


def build_vocabulary(
    log_items: pa.Table,
    catalogue: pa.Table | None,
    missing_title: Literal["error", "drop"],
    is_long: IsLong | None = None,
) -> Vocabulary:
    """Number the items of log and catalogue.

    Parameters
    ----------
    log_items : item, title, count as `merge_counts` gives them.
    catalogue : item, title, one or more rows per item; None if titles come from the log.
    missing_title : what to do with items of the log that have no title.
    is_long : which titles are too long; their items are left out. None leaves none out.

    Raises `UserError` naming the first five items without a title, unless they are to be dropped.
    """
    if catalogue is not None:
        titled = item_titles(catalogue)
        items = _merge(pa.concat_tables([log_items, titled]))
    else:
        titled = log_items.slice(0, 0)
        items = log_items
    items = items.sort_by("item")
    untitled = items.filter(pc.is_null(items["title"]))
    missing = untitled.filter(pc.greater(untitled["count"], 0))
    if len(missing) and missing_title == "error":
        names = [shown_id(name) for name in missing["item"].slice(0, _SHOWN).to_pylist()]
        shown = ", ".join([*names, *(["..."] if len(missing) > _SHOWN else [])])
        why = mismatch(_array(missing["item"]), _array(titled.filter(pc.is_valid(titled["title"]))["item"]))
        remedy = "Use the same item ids in the log and in data.items" if why else "Add them to data.items"
        if catalogue is None:
            remedy = "Fill in their titles in the log, or set data.items to a catalogue"
        have = counted(len(missing), "item of the log has", "items of the log have")
        raise UserError(
            f"{have} no title: {shown}.{' ' if why else ''}{why}",
            f"{remedy}, or set data.missing_title: drop to leave their interactions out.",
        )
    kept = items.filter(pc.is_valid(items["title"])).combine_chunks()
    long = kept.slice(0, 0)
    if is_long is not None and len(kept):
        mask = pa.array(is_long(kept["title"].to_pylist()))
        long, kept = kept.filter(mask), kept.filter(pc.invert(mask)).combine_chunks()
    in_log = int(pc.sum(pc.greater(kept["count"], 0)).as_py() or 0)
    return Vocabulary(
        item_ids=_array(kept["item"]),
        titles=_array(kept["title"]),
        in_log=in_log,
        in_catalogue=len(titled),
        dropped_items=len(missing),
        dropped_interactions=int(pc.sum(missing["count"]).as_py() or 0),
        catalogue_without_title=len(untitled) - len(missing),
        long_items=len(long),
        long_interactions=int(pc.sum(long["count"]).as_py() or 0),
    )


def _array(column: pa.ChunkedArray) -> pa.Array:
    joined = column.combine_chunks()
    return joined if isinstance(joined, pa.Array) else pa.concat_arrays(joined.chunks)


def item_indices(items: pa.ChunkedArray, vocabulary: pa.Array) -> pa.ChunkedArray:
    """Return the int32 index, from 1, of every item; null if the vocabulary lacks it."""
    return pc.add(pc.index_in(items, value_set=vocabulary), pa.scalar(1, pa.int32()))


def items_table(vocabulary: Vocabulary, train_counts: np.ndarray) -> pa.Table:
    """Build items.parquet: item_index int32 (1..V), item_id, title, count int64 of train interactions.

    Parameters
    ----------
    train_counts : int64 [V + 1], by item index.
    """
    return pa.table(
        {
            "item_index": pa.array(np.arange(1, len(vocabulary) + 1, dtype=np.int32)),
            "item_id": vocabulary.item_ids,
            "title": vocabulary.titles,
            "count": pa.array(train_counts[1:].astype(np.int64)),
        }
    )
