"""What runs inside the actors of a recommendation: one ranker over chunks of users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.storage import Storage
from pipeline.engine.sample_tables import ragged_column
from pipeline.recommend.ranker_sources import RankerSource
from pipeline.stages.ranking_task import Users
from scoring.ragged import Ragged
from training.ranking.top_items import top_items

#: The columns of a list. Ranks start at 1, and a user's better items have higher scores.
RECOMMENDATIONS = pa.schema(
    [
        ("user_id", pa.string()),
        ("rank", pa.int32()),
        ("item_id", pa.string()),
        ("title", pa.string()),
        ("score", pa.float32()),
    ]
)


def users_file(index: int) -> str:
    """Return the name of a chunk's file: user_id, history (what the model sees) and seen (all that was chosen)."""
    return f"_users/part-{index:05d}.parquet"


@dataclass(frozen=True)
class Listing:
    """The rules by which a ranking becomes a list.

    Attributes
    ----------
    item_ids, titles : the log's ids and titles of the items, from item 1.
    groups : [n], equal for items whose titles are equal; a list shows one of them.
    allowed : bool [n], the candidates; None allows all.
    k : the length of a list.
    keep_seen : whether a list may have items that the user has chosen.
    """

    item_ids: Sequence[str]
    titles: Sequence[str]
    groups: npt.NDArray[np.int64]
    allowed: npt.NDArray[np.bool_] | None
    k: int
    keep_seen: bool


class RecommendWorker:
    """Recommends to one chunk of users after another.

    Parameters
    ----------
    folder : the folder of the chunks; see `users_file`.
    """

    def __init__(self, folder: Storage, source: RankerSource, listing: Listing) -> None:
        self._folder = folder
        self._listing = listing
        self._ranker = source.build()
        self._item_ids = pa.array(listing.item_ids, pa.string())
        self._titles = pa.array(listing.titles, pa.string())

    def __call__(self, index: int) -> tuple[pa.Table, Mapping[str, object]]:
        table, listing = self._folder.read_table(users_file(index)), self._listing
        none = Ragged(np.empty(0, np.int32), np.zeros(table.num_rows + 1, np.int64))
        seen = None if listing.keep_seen else ragged_column(table, "seen")
        users = Users(table, ragged_column(table, "history"), none, seen)
        scores = self._ranker.answer(users).scores
        if listing.allowed is not None:
            scores = best_of_title(scores, listing.groups)
        best = top_items(scores, listing.k, seen, listing.allowed, listing.groups)
        row = best.items.row_of_value()
        rank = np.arange(len(row)) - best.items.offsets[row] + 1
        items = pa.array(best.items.values.astype(np.int64) - 1)
        columns = [
            table["user_id"].combine_chunks().take(pa.array(row)),
            pa.array(rank.astype(np.int32)),
            self._item_ids.take(items),
            self._titles.take(items),
            pa.array(best.scores, pa.float32()),
        ]
        return pa.Table.from_arrays(columns, schema=RECOMMENDATIONS), {}


def best_of_title(scores: npt.NDArray[np.float32], groups: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Give every item the best score of its title, [U, n], so that any item of a title can stand for it.

    A ranker may give its score to one of the items that share a title, and that one may be no candidate. Groups count
    from 0.
    """
    order = np.argsort(groups, kind="stable")
    first = np.flatnonzero(np.diff(groups[order], prepend=-1))
    best: npt.NDArray[np.float32] = np.fmax.reduceat(scores[:, order], first, axis=1)
    return best[:, groups]
