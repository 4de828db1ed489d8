"""Choosing the coreset: the methods by name."""

from __future__ import annotations

from scoring.exceptions import SettingError
from scoring.selectors.ablation import EFFORT, INFLUENCE
from scoring.selectors.base import Reference, ScoreShard, Selection, SelectionParams, Selector, Shards
from scoring.selectors.ccs import CCS
from scoring.selectors.dealrec import DEALREC
from scoring.selectors.density_ratio import DensityRatioSelector
from scoring.selectors.difficulty import EL2N, GRAND
from scoring.selectors.full import FullSelector
from scoring.selectors.goracs import GoracsSelector
from scoring.selectors.popularity import PopularitySelector
from scoring.selectors.random import RandomSelector
from scoring.selectors.reference import ReferenceSelector
from scoring.selectors.reference_popularity import ReferencePopularitySelector
from scoring.selectors.top import TOP

__all__ = [
    "FULL",
    "METHODS",
    "Reference",
    "ScoreShard",
    "Selection",
    "SelectionParams",
    "Shards",
    "required_scores",
    "select",
    "selector",
]

#: Takes every sample, whatever the size.
FULL = "full"

METHODS: dict[str, Selector] = {
    "dealrec": DEALREC,
    "random": RandomSelector(),
    FULL: FullSelector(),
    "top": TOP,
    "ccs": CCS,
    "el2n": EL2N,
    "grand": GRAND,
    "influence": INFLUENCE,
    "effort": EFFORT,
    "popularity": PopularitySelector(),
    "density_ratio": DensityRatioSelector(),
    "reference_popularity": ReferencePopularitySelector(),
    "goracs": GoracsSelector(),
    "reference": ReferenceSelector(),
}


def selector(method: str) -> Selector:
    """The selector of that name. Raises SettingError if there is none."""
    if method not in METHODS:
        raise SettingError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    return METHODS[method]


def required_scores(method: str) -> tuple[str, ...]:
    """Which scores the method needs; without the others it can do with any values."""
    return selector(method).scores


def select(shards: Shards, params: SelectionParams, reference: Reference | None = None) -> Selection:
    """Choose the coreset.

    Parameters
    ----------
    shards : begins a pass over the score shards. It is called once a pass; each pass must give the same rows,
        in whatever order or grouping. The result depends on the set of rows alone.
    params : method, size and the method's parameters.
    reference : the samples that a method which sees the validation period is aimed at.

    Returns
    -------
    The coreset in the order of sample ids: min(size, samples left after exclusion and pruning) of them.

    Raises
    ------
    TooFewSamplesError : more samples are asked for than there are, or none is usable.
    SettingError : no such method, or no reference where the method needs one.
    """
    return selector(params.method).select(shards, params, reference)
