"""The items that models put first: how many different ones, how popular they are, and how long their titles are.

A likelihood favours short titles and popular ones; these figures say by how much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

#: Titles, spread over the catalogue, that stand for the length of all.
_MEASURED = 1000


def first_items(
    predictions: pa.Table,
    counts: npt.NDArray[np.int64],
    titles: Sequence[str],
    tokens: Callable[[Sequence[str]], Sequence[int]],
) -> dict[str, object]:
    """Describe the first item of every user by model, and the catalogue to compare it with.

    Parameters
    ----------
    predictions : has the columns `model` and `grounded`, the first item.
    counts : [n], interactions in train. The percentile of an item is the share of items with fewer, and half of those
        with as many.
    titles : n titles, from item 1.
    tokens : returns the number of tokens of each title.
    """
    step = -(-len(titles) // _MEASURED)
    found: dict[str, object] = {"catalogue": {"items": len(titles), "title_tokens": _mean(tokens(titles[::step]))}}
    ordered = np.sort(counts)
    below = np.searchsorted(ordered, counts, side="left") + np.searchsorted(ordered, counts, side="right")
    percentiles = 50.0 * below / len(counts)
    for label in dict.fromkeys(predictions.column("model").to_pylist()):
        rows = predictions.filter(pc.equal(predictions.column("model"), label))
        items = rows.column("grounded").to_numpy() - 1
        different, uses = np.unique(items, return_counts=True)
        lengths = np.asarray(tokens([titles[item] for item in different.tolist()]))
        found[label] = {
            "items": len(different),
            "popularity_percentile": _mean(percentiles[items]),
            "title_tokens": float(np.average(lengths, weights=uses)),
        }
    return found


def _mean(values: Sequence[int] | npt.NDArray[np.float64]) -> float:
    return float(np.mean(values))
