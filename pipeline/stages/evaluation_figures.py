"""The figures of an evaluation, computed once from the gathered predictions of all models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.engine.sample_tables import ragged_column
from scoring.ragged import Ragged
from training.ranking.cutoffs import CUTOFFS
from training.ranking.list_metrics import first_items, list_metrics, share_outside
from training.ranking.ranking_metrics import (
    Interval,
    paired_differences,
    select_targets,
    summarise_all,
    title_groups,
    user_metrics,
)

Figures = dict[str, dict[str, float]]


def measure(
    predictions: pa.Table,
    counts: npt.NDArray[np.int64],
    titles: Sequence[str],
    cutoffs: Sequence[int] = CUTOFFS,
    seed: int = 0,
    focus: str | None = None,
) -> dict[str, Any]:
    """Measure every model over all users, and over warm and cold targets apart.

    Parameters
    ----------
    predictions : the rows of `predictions.parquet`; all models have the same users in the same order.
    counts, titles : train interactions and title of each item, from item 1. An item is cold when train holds no
        interaction with it.
    focus : the model that the others are subtracted from; None subtracts none.

    Returns
    -------
    The content of `metrics.json`: `models` and `slices` with the intervals of the ranking metrics, `lists` with the
    figures of what is shown, and `differences` of the focus from each other model, paired by user.
    """
    groups = title_groups(titles)
    models: dict[str, Figures] = {}
    slices: dict[str, dict[str, Figures]] = {"warm": {}, "cold": {}}
    lists: dict[str, dict[str, float]] = {}
    ranks: dict[str, Ragged] = {}
    users = targets = 0
    for label, table in by_model(predictions).items():
        ranks[label] = ragged_column(table, "ranks")
        items = ragged_column(table, "targets").values
        warm = counts[items - 1] > 0
        users, targets = len(ranks[label]), len(items)
        models[label] = _summary(ranks[label], cutoffs, seed)
        for name, chosen in (("warm", warm), ("cold", ~warm)):
            if chosen.any():
                slices[name][label] = _summary(select_targets(ranks[label], chosen), cutoffs, seed)
        lists[label] = _list_figures(ragged_column(table, "items"), counts, groups, cutoffs)
        outside = share_outside(table.column("generated").to_pylist(), titles)
        if outside is not None:
            lists[label]["outside"] = outside
    others = [label for label in ranks if label != focus] if focus in ranks else []
    return {
        "users": users,
        "targets": targets,
        "cutoffs": list(cutoffs),
        "models": models,
        "slices": {name: values for name, values in slices.items() if values},
        "lists": lists,
        "differences": {
            label: _plain(paired_differences(ranks[str(focus)], [ranks[label]], cutoffs, seed)) for label in others
        },
    }


def by_model(predictions: pa.Table) -> dict[str, pa.Table]:
    """Return the rows of each model, in the order in which the models appear."""
    column = predictions.column("model")
    return {label: predictions.filter(pc.equal(column, label)) for label in pc.unique(column).to_pylist()}


def _list_figures(
    items: Ragged, counts: npt.NDArray[np.int64], groups: npt.NDArray[np.int64], cutoffs: Sequence[int]
) -> dict[str, float]:
    """Return `coverage@K` and the other figures of the lists."""
    found = {cutoff: asdict(list_metrics(first_items(items, cutoff), counts, groups)) for cutoff in cutoffs}
    return {f"{name}@{cutoff}": value for cutoff, values in found.items() for name, value in values.items()}


def _summary(ranks: Ragged, cutoffs: Sequence[int], seed: int) -> Figures:
    return _plain(summarise_all(user_metrics(ranks, cutoffs), seed=seed))


def _plain(intervals: Mapping[str, Interval]) -> Figures:
    return {name: asdict(interval) for name, interval in intervals.items()}
