"""Figures of a recommender's lists beyond accuracy: how much of the catalogue they show, and how popular it is.

Conventions. Everything is counted in titles: items that share a title are one answer, and their interactions add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scoring.ragged import Ragged
from training.llm.prompts import clean_title


@dataclass(frozen=True)
class ListMetrics:
    """Figures of the lists of all users.

    Attributes
    ----------
    coverage : the share of the catalogue's titles that some list shows.
    distinct : the number of these titles.
    novelty : mean self-information of what is shown, in bits: -log2 of a title's share of the train interactions. A
        title without any counts as one with a single interaction.
    popularity : mean number of train interactions of what is shown.

    Means are over the users whose list is not empty, of the mean over each list; NaN without such a user.
    """

    coverage: float
    distinct: int
    novelty: float
    popularity: float


def list_metrics(
    items: Ragged, counts: npt.NDArray[np.int64], groups: npt.NDArray[np.int64] | None = None
) -> ListMetrics:
    """Return the figures of lists of items.

    Parameters
    ----------
    items : the list of each user, cut to the length that counts.
    counts : [n], train interactions by item, column j for item j + 1.
    groups : [n], from 0 on, equal for items that share a title; None if no two items do.
    """
    groups = np.arange(len(counts)) if groups is None else groups
    interactions = np.bincount(groups, weights=counts).astype(np.float64)
    shown = groups[items.values.astype(np.int64) - 1]
    distinct = len(np.unique(shown))
    rarity = max(interactions.sum(), 1) / np.maximum(interactions, 1)
    return ListMetrics(
        coverage=distinct / len(interactions),
        distinct=distinct,
        novelty=_mean_of_means(items, np.log2(rarity)[shown]),
        popularity=_mean_of_means(items, interactions[shown]),
    )


def first_items(items: Ragged, count: int) -> Ragged:
    """Return the first `count` items of each row."""
    kept = np.arange(len(items.values)) - items.offsets[items.row_of_value()] < count
    lengths = np.minimum(items.lengths, count)
    return Ragged(items.values[kept], np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def share_outside(generated: Iterable[str | None], titles: Sequence[str]) -> float | None:
    """Return the share of the generated texts that are no title of the catalogue; None without any text.

    Texts and titles are compared as the LLM is shown titles, on one line and with single quotes.
    """
    texts = [text for text in generated if text is not None]
    known = {clean_title(title) for title in titles}
    # An empty text is no title, even if the catalogue has an item with an empty one.
    outside = [not text.strip() or clean_title(text) not in known for text in texts]
    return float(np.mean(outside)) if outside else None


def _mean_of_means(items: Ragged, values: npt.NDArray[np.float64]) -> float:
    lengths = items.lengths
    sums = np.bincount(items.row_of_value(), weights=values, minlength=len(items))
    filled = lengths > 0
    return float(np.mean(sums[filled] / lengths[filled])) if filled.any() else float("nan")
