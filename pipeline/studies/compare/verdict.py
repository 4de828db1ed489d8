"""Conclude a comparison: which coresets win, and which one validation chooses.

A coreset wins when it is above its control and above the untuned model, both beyond chance. Being above the control
alone is not enough: where tuning on the control's coreset does harm, a selector that teaches nothing is above it too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from pipeline.engine.estimate_record import EstimateRecord
from pipeline.studies.compare.outcomes import TEST, VALID, ZERO_SHOT
from pipeline.studies.compare.records import (
    ArmRow,
    Choice,
    ComparisonRecord,
    DifferenceKind,
    MetricRecord,
    VerdictRecord,
)
from training.ranking.ranking_metrics import ROUNDING

#: The metric that decides verdicts and the choice.
METRIC = "ndcg@10"
#: Why validation chooses nothing, by target.
_NO_GAIN = {
    "proxy": f"none is above {ZERO_SHOT} there, beyond chance and by every proxy",
    "llm": "none has a lower validation loss than the untuned model",
}
Metrics = Mapping[str, Mapping[str, MetricRecord]]


def is_above(metrics: Metrics, kind: DifferenceKind, part: str = TEST) -> bool | None:
    """Tell whether a difference is above zero beyond chance; None where there is no such difference."""
    return _sign(metrics, kind, part, lambda found: found["low"] > ROUNDING)


def is_below(metrics: Metrics, kind: DifferenceKind, part: str = TEST) -> bool | None:
    """Tell whether a difference is below zero beyond chance; None where there is no such difference."""
    return _sign(metrics, kind, part, lambda found: found["high"] < -ROUNDING)


def _sign(metrics: Metrics, kind: DifferenceKind, part: str, holds: Callable[[EstimateRecord], bool]) -> bool | None:
    metric = metrics.get(part, {}).get(METRIC)
    found = None if metric is None else metric.get(kind)
    return None if found is None else holds(found)


def verdict(metrics: Metrics) -> VerdictRecord:
    """Tell whether a row with these metrics is above its control, above zero-shot, and so a winner."""
    control, zero_shot = is_above(metrics, "difference"), is_above(metrics, "from_zero_shot")
    return {"above_control": control, "above_zero_shot": zero_shot, "winner": bool(control and zero_shot)}


def chosen_by_validation(rows: Sequence[ArmRow], unfit: Collection[str] = ()) -> list[Choice]:
    """Return the coreset that validation chooses for each size, before anyone looks at the test users.

    With proxies it is the coreset with the highest sum of validation NDCG@10 over the proxies, among those that are
    above zero-shot beyond chance by every proxy. The LLM ranks test users only, so there it is the coreset with the
    lowest mean validation loss, provided that this is below the untuned model's.

    Parameters
    ----------
    rows : the rows of `comparison_rows`.
    unfit : selectors that have looked at all validation users; validation cannot judge these.

    Returns
    -------
    A choice for each size; empty without validation.
    """
    by_size: dict[float, dict[str, list[ArmRow]]] = {}
    for row in rows:
        if row["size"] is not None and row["selector"] not in unfit:
            by_size.setdefault(row["size"], {}).setdefault(row["selector"], []).append(row)
    judged = [row for group in by_size.values() for found in group.values() for row in found]
    if not any(_gain(row) is not None for row in judged):
        return []
    chosen: list[Choice] = []
    for size, group in by_size.items():
        gains = {name: [_gain(row) for row in found] for name, found in group.items()}
        sums = {name: sum(known) for name, found in gains.items() if len(known := _known(found)) == len(found)}
        # The selector that was named first wins among equal sums.
        chosen.append({"size": size, "selector": max(sums, key=lambda name: sums[name], default=None)})
    return chosen


def _gain(row: ArmRow) -> float | None:
    """Return what decides the choice, larger is better; -inf without a gain beyond chance, None if unknown."""
    loss, untuned = row["valid_loss"], row["untuned_loss"]
    if loss is not None and untuned is not None:
        return -loss if loss < untuned else float("-inf")
    above = is_above(row["metrics"], "from_zero_shot", VALID)
    if above is None:
        return None
    return row["metrics"][VALID][METRIC]["value"] if above else float("-inf")


def _known(gains: Sequence[float | None]) -> list[float]:
    return [gain for gain in gains if gain is not None and gain > float("-inf")]


def harmful_control(rows: Sequence[ArmRow], control: str) -> list[str]:
    """Return a warning for each model whose control is below the untuned model beyond chance."""
    harmed: dict[str, None] = {}
    for row in rows:
        if row["selector"] == control and is_below(row["metrics"], "from_zero_shot"):
            harmed.setdefault(row["model"])
    return [
        f"{model}: tuning on {control} does harm, beyond chance. A selector above {control} may be no better than no "
        f"tuning: read the differences from {ZERO_SHOT}"
        for model in harmed
    ]


def conclusions(result: ComparisonRecord) -> list[str]:
    """Return sentences for the terminal and the page: the winners by model, and what validation chooses."""
    rows, control, several = result["rows"], result["control"], len(result["sizes"]) > 1
    said = []
    if any(row["above_control"] is not None for row in rows):
        for model in dict.fromkeys(row["model"] for row in rows):
            winners = [_named(row, several) for row in rows if row["model"] == model and row["winner"]]
            said.append(f"{model}: above {control} and {ZERO_SHOT} beyond chance: {', '.join(winners) or 'none'}")
    for choice in result["chosen"]:
        where = f" of {choice['size']:g}" if several else ""
        if choice["selector"] is None:
            said.append(f"Validation chooses no coreset{where}: {_NO_GAIN[result['target']]}")
        else:
            said.append(f"Validation chooses {choice['selector']}{where}")
    return said


def _named(row: ArmRow, several: bool) -> str:
    size = row["size"]
    return row["selector"] if size is None or not several else f"{row['selector']} of {size:g}"
