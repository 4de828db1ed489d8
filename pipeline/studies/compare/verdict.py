"""What a comparison comes to: which coresets win, and which one validation chooses.

A coreset wins when it is above its control and above the untuned model, both beyond chance. Above the control alone is
no win: where tuning on the control's coreset does harm, whatever leaves the model as it was is above it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from pipeline.studies.compare.outcomes import TEST, VALID, ZERO_SHOT

#: The metric that verdicts and the choice go by.
METRIC = "ndcg@10"
#: A difference below this is a rounding error of the mean over draws.
_ROUNDING = 1e-9
#: Why validation chooses nothing, by what was tuned.
_NO_GAIN = {
    "proxy": f"none is above {ZERO_SHOT} there, beyond chance and by every proxy",
    "llm": "none has a lower validation loss than the untuned model",
}
Row = Mapping[str, Any]


def is_above(row: Row, kind: str, part: str = TEST) -> bool | None:
    """Whether a row's `difference` or its difference `from_zero_shot` is above zero beyond chance; None without one."""
    return _sign(row, kind, part, lambda found: found["low"] > _ROUNDING)


def is_below(row: Row, kind: str, part: str = TEST) -> bool | None:
    """Whether it is below zero beyond chance; None without one."""
    return _sign(row, kind, part, lambda found: found["high"] < -_ROUNDING)


def _sign(row: Row, kind: str, part: str, holds: Callable[[Mapping[str, float]], bool]) -> bool | None:
    found = row["metrics"].get(part, {}).get(METRIC, {}).get(kind)
    return None if found is None else holds(found)


def verdict(row: Row) -> dict[str, bool | None]:
    """Whether a row of `comparison_rows` is above its control, above zero-shot, and so a winner."""
    control, zero_shot = is_above(row, "difference"), is_above(row, "from_zero_shot")
    return {"above_control": control, "above_zero_shot": zero_shot, "winner": bool(control and zero_shot)}


def chosen_by_validation(rows: Sequence[Row], unfit: Collection[str] = ()) -> list[dict[str, Any]]:
    """For each size the coreset that validation chooses, before anyone looks at the test users.

    Of proxies it is the one with the highest sum of validation NDCG@10 over the proxies, among those above zero-shot
    there, beyond chance and on every proxy. Of the LLM, which ranks test users alone, it is the one with the lowest
    mean validation loss, if that is below the untuned model's.

    Parameters
    ----------
    rows : of `comparison_rows`.
    unfit : selectors that have looked at all validation users; for these, validation is no judge.

    Returns
    -------
    size, and `selector`, None where tuning on no coreset of this size is better than none. Empty without validation.
    """
    by_size: dict[float, dict[str, list[Row]]] = {}
    for row in rows:
        if row["size"] is not None and row["selector"] not in unfit:
            by_size.setdefault(row["size"], {}).setdefault(row["selector"], []).append(row)
    judged = [row for group in by_size.values() for found in group.values() for row in found]
    if not any(_gain(row) is not None for row in judged):
        return []
    chosen = []
    for size, group in by_size.items():
        gains = {name: [_gain(row) for row in found] for name, found in group.items()}
        sums = {name: sum(known) for name, found in gains.items() if len(known := _known(found)) == len(found)}
        # Of equal ones the first that was asked for.
        chosen.append({"size": size, "selector": max(sums, key=lambda name: sums[name], default=None)})
    return chosen


def _gain(row: Row) -> float | None:
    """What the choice goes by, larger is better; -inf where tuning gains nothing beyond chance, None if not known."""
    if row["valid_loss"] is not None:
        return -row["valid_loss"] if row["valid_loss"] < row["untuned_loss"] else float("-inf")
    above = is_above(row, "from_zero_shot", VALID)
    if above is None:
        return None
    return float(row["metrics"][VALID][METRIC]["value"]) if above else float("-inf")


def _known(gains: Sequence[float | None]) -> list[float]:
    return [gain for gain in gains if gain is not None and gain > float("-inf")]


def harmful_control(rows: Sequence[Row], control: str) -> list[str]:
    """A text for each model whose control is below the untuned model beyond chance: what beats it may teach nothing."""
    harmed: dict[str, None] = {}
    for row in rows:
        if row["selector"] == control and is_below(row, "from_zero_shot"):
            harmed.setdefault(row["model"])
    return [
        f"{model}: tuning on {control} does harm, beyond chance. Above {control} may be no better than no tuning: read "
        f"the differences from {ZERO_SHOT}"
        for model in harmed
    ]


def conclusions(result: Mapping[str, Any]) -> list[str]:
    """Sentences for the terminal and the page: who wins by which model, and what validation chooses."""
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


def _named(row: Row, several: bool) -> str:
    size = row["size"]
    return row["selector"] if size is None or not several else f"{row['selector']} of {size:g}"
