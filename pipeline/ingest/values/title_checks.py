"""Check whether titles are those of the items, or what people wrote about them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

#: Limits on the items to look at closely, and on their rows.
_ITEMS, _ROWS = 1_000, 1_000_000
#: Items are renamed, misspelt, and titled in two languages. Headlines vary more: this many titles per item, and a new
#: title in at least this share of an item's further rows.
_TITLES, _NEW_TITLES = 3, 0.25


class Spread(NamedTuple):
    """Titles of some items: the number of rows, the number of different titles, and an example item."""

    items: int
    rows: int
    titles: int
    example: str
    shown: tuple[str, ...]

    @property
    def headlines(self) -> bool:
        """Tell whether further rows of an item mostly bring further titles, as reviews do."""
        further = self.titles - self.items > _NEW_TITLES * (self.rows - self.items)
        return further and self.titles >= _TITLES * self.items


def several_titles(items: pa.Table) -> pa.Table:
    """Return the items (item, title, other, ...) whose least and greatest title differ, ordered by id."""
    several = pc.fill_null(pc.not_equal(items["title"], items["other"]), False)
    return items.filter(several).sort_by("item")


def worth_a_look(several: int, repeated: int, items: int, least: float) -> bool:
    """Return whether so many items have several titles that these may not be titles of items.

    Parameters
    ----------
    repeated : items with two rows or more, the only ones that can tell.
    least : the share of all items from which they tell.
    """
    return several > repeated / 2 and several >= least * items


def some_items(several: pa.Table) -> pa.Array:
    """Return items to look at closely: a bounded number of rows, spread evenly over items with several titles."""
    step = -(-len(several) // _ITEMS)
    chosen = several.take(pa.array(range(0, len(several), step)))
    within = pc.less_equal(pc.cumulative_sum(chosen["count"]), _ROWS)
    return chosen["item"].slice(0, max(1, pc.sum(within).as_py())).combine_chunks()


def count_titles(block: pa.Table, items: pa.Array) -> pa.Table:
    """Count each title of some items in a block: item, title, count."""
    rows = block.select(["item", "title"]).filter(pc.is_in(block["item"], value_set=items))
    counted = rows.filter(pc.is_valid(rows["title"])).group_by(["item", "title"]).aggregate([([], "count_all")])
    return counted.rename_columns(["item", "title", "count"])


def spread_of(counts: Iterable[pa.Table]) -> Spread:
    """Compute the spread over all blocks of `count_titles`."""
    pairs = pa.concat_tables(counts).group_by(["item", "title"]).aggregate([("count", "sum")])
    items = pairs.group_by("item").aggregate([("title", "count"), ("count_sum", "sum")])
    most = items.sort_by([("title_count", "descending"), ("item", "ascending")])["item"][0]
    titles = pairs.filter(pc.equal(pairs["item"], most)).sort_by("title")["title"].slice(0, 3)
    return Spread(
        len(items), int(pc.sum(pairs["count_sum"]).as_py()), len(pairs), most.as_py(), tuple(titles.to_pylist())
    )


def quoted(titles: Sequence[str]) -> str:
    """Quote titles for a message, shortening long ones."""
    return ", ".join(repr(title if len(title) <= 40 else f"{title[:39]}…") for title in titles)
