"""Choosing the coreset: the methods by name."""

from __future__ import annotations

from scoring.exceptions import SettingError
from scoring.reference import Reference
from scoring.selectors.base import ScoreShard, Selection, SelectionParams, Selector
from scoring.selectors.dealrec_selector import DealrecSelector
from scoring.selectors.density_ratio import DensityRatioSelector
from scoring.selectors.full import FullSelector
from scoring.selectors.goracs import GoracsSelector
from scoring.selectors.hardest import El2nSelector, GrandSelector
from scoring.selectors.own_selector import is_own, load_own, select_by_own
from scoring.selectors.popularity import PopularitySelector
from scoring.selectors.random import RandomSelector
from scoring.selectors.reference_draw import ReferenceSelector
from scoring.selectors.reference_popularity import ReferencePopularitySelector
from scoring.selectors.score_shard import Shards
from scoring.selectors.single_score import CcsSelector, EffortSelector, InfluenceSelector
from scoring.selectors.top import TopSelector

__all__ = [
    "FULL",
    "METHODS",
    "Reference",
    "ScoreShard",
    "Selection",
    "SelectionParams",
    "Shards",
    "is_own",
    "required_scores",
    "select",
    "selector",
]

#: Takes every sample, whatever the size.
FULL = "full"

METHODS: dict[str, type[Selector]] = {
    "dealrec": DealrecSelector,
    "random": RandomSelector,
    FULL: FullSelector,
    "top": TopSelector,
    "ccs": CcsSelector,
    "el2n": El2nSelector,
    "grand": GrandSelector,
    "influence": InfluenceSelector,
    "effort": EffortSelector,
    "popularity": PopularitySelector,
    "density_ratio": DensityRatioSelector,
    "reference_popularity": ReferencePopularitySelector,
    "goracs": GoracsSelector,
    "reference": ReferenceSelector,
}


def selector(method: str) -> type[Selector]:
    """Return the selector of a name or of `module:Class`. Raises SettingError for any other name."""
    if method in METHODS:
        return METHODS[method]
    if is_own(method):
        return load_own(method)
    raise SettingError(f"method must be one of {', '.join(METHODS)}, or module:Class of your own, not {method!r}")


def required_scores(method: str) -> tuple[str, ...]:
    """Return the scores that the method needs; the others may have any values."""
    return selector(method).scores


def select(shards: Shards, params: SelectionParams, reference: Reference | None = None) -> Selection:
    """Choose the coreset.

    Parameters
    ----------
    shards : begins a pass over the score shards. It is called once a pass; each pass must give the same rows,
        in whatever order or grouping. The result depends on the set of rows alone.
    params : method, size, seed and the method's settings.
    reference : the samples that a method which sees the validation period is aimed at.

    Returns
    -------
    The coreset in the order of sample ids: min(size, samples left after exclusion and pruning) of them.

    Raises
    ------
    TooFewSamplesError : more samples are asked for than there are, or none is usable.
    SettingError : no such method or setting, or no reference where the method needs one.
    SelectorError : a selector of the user's own fails, or gives no finite number for each sample.
    """
    kind = selector(params.method)
    if is_own(params.method):
        return select_by_own(kind, shards, params, reference)
    return kind(params.settings).select(shards, params, reference)
