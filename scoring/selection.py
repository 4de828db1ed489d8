"""Choosing the coreset: the methods by name."""

from __future__ import annotations

from scoring.errors import SettingError
from scoring.selectors.base import ScoreShard, Selection, SelectionParams, Selector, Shards
from scoring.selectors.dealrec import DealrecSelector
from scoring.selectors.random import RandomSelector

__all__ = ["METHODS", "ScoreShard", "Selection", "SelectionParams", "Shards", "required_scores", "select"]

METHODS: dict[str, Selector] = {
    "dealrec": DealrecSelector(),
    "random": RandomSelector(),
}


def selector(method: str) -> Selector:
    """The selector of that name. Raises SettingError if there is none."""
    if method not in METHODS:
        raise SettingError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    return METHODS[method]


def required_scores(method: str) -> tuple[str, ...]:
    """Which of "influence" and "effort" the method needs; without them it can do with any values."""
    return selector(method).scores


def select(shards: Shards, params: SelectionParams) -> Selection:
    """Choose the coreset.

    Parameters
    ----------
    shards : begins a pass over the score shards. It is called once a pass; each pass must give the same rows,
        in whatever order or grouping. The result depends on the set of rows alone.
    params : method, size and the method's parameters.

    Returns
    -------
    The coreset in the order of sample ids: min(size, samples left after exclusion and pruning) of them.

    Raises
    ------
    TooFewSamplesError : more samples are asked for than there are, or none is usable.
    SettingError : no such method.
    """
    return selector(params.method).select(shards, params)
