"""From the ranks of all arms to one row a model, selector and size: means, paired differences, intervals, cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.studies.compare.arms import RANDOM
from pipeline.studies.compare.outcomes import TEST, VALID, ZERO_SHOT, Outcome
from pipeline.studies.compare.verdict import verdict
from scoring.comparison import Resamples, estimate, paired_difference
from scoring.ragged import Ragged
from scoring.selection import FULL
from training.ranking.ranking_metrics import select_targets, user_metrics

Values = npt.NDArray[np.float64]
#: Of one model, selector and size.
Key = tuple[str, str, float | None]


def comparison_rows(
    outcomes: Sequence[Outcome],
    slices: Mapping[str, npt.NDArray[np.bool_]],
    scoring_seconds: Mapping[str, float],
    control: str = RANDOM,
) -> list[dict[str, Any]]:
    """A row for each model, selector and size, in the order of `outcomes`.

    Parameters
    ----------
    outcomes : of all arms; each selector has the same training seeds.
    slices : names of sets of test targets, bool [M] each.
    scoring_seconds : by selector, what its scores cost.
    control : the selector that the others are held against.

    Returns
    -------
    model, selector, size, samples, seeds, sees_validation; `best_steps` of the arms, by seed and draw, and `untuned`,
    how many of them are best at step 0; `valid_loss` and `untuned_loss` (their means, None of proxies); `seconds` with
    scoring, selection, tuning, total and `of_full`, the total over that of `full` (None without it); and `metrics`, for
    each part ("test", its slices, "valid") and metric the estimate of the mean, of the `difference` from the control's
    coreset of the same size, and of the difference `from_zero_shot`, both over the same resamples of seeds and users.
    `full` is held against the control's largest. `above_control`, `above_zero_shot` and `winner` are the verdict.
    """
    groups: dict[Key, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.model, outcome.selector, outcome.size), []).append(outcome)
    rows = {key: _facts(group, scoring_seconds) for key, group in groups.items()}
    for (model, _, _), row in rows.items():
        full = rows.get((model, FULL, None))
        total = row["seconds"]["total"]
        row["seconds"]["of_full"] = total / full["seconds"]["total"] if full and full["seconds"]["total"] else None
        row["metrics"] = {}
    samples = {key: row["samples"] for key, row in rows.items()}
    for part, values in _parts(groups, slices):
        for key, found in _estimates(values, samples, control).items():
            rows[key]["metrics"][part] = found
    return [{**row, **verdict(row)} for row in rows.values()]


def _facts(group: Sequence[Outcome], scoring_seconds: Mapping[str, float]) -> dict[str, Any]:
    first = group[0]
    seconds = {
        "scoring": scoring_seconds.get(first.selector, 0.0),
        "selection": float(np.mean([outcome.selection_seconds for outcome in group])),
        "tuning": float(np.mean([outcome.tuning_seconds for outcome in group])),
    }
    ordered = sorted(group, key=lambda outcome: (outcome.seed, outcome.draw))
    steps = [outcome.best_step for outcome in ordered if outcome.best_step is not None]
    return {
        "model": first.model,
        "selector": first.selector,
        "size": first.size,
        "samples": round(float(np.mean([outcome.samples for outcome in group]))),
        "seeds": len({outcome.seed for outcome in group}),
        "arms": 0 if first.selector == ZERO_SHOT else len(group),
        "sees_validation": any(outcome.sees_validation for outcome in group),
        "best_steps": steps,
        "untuned": steps.count(0),
        "valid_loss": _mean([outcome.valid_loss for outcome in group]),
        "untuned_loss": _mean([outcome.untuned_loss for outcome in group]),
        "seconds": {**seconds, "total": sum(seconds.values())},
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _parts(
    groups: Mapping[Key, Sequence[Outcome]], slices: Mapping[str, npt.NDArray[np.bool_]]
) -> Iterator[tuple[str, dict[Key, dict[str, Values]]]]:
    """For each part of the targets, the metrics of every group, [seeds, draws, users] each."""
    sliced = [(name, TEST, chosen) for name, chosen in slices.items()]
    for part, split, chosen in [(TEST, TEST, None), *sliced, (VALID, VALID, None)]:
        yield part, {key: _grid(group, split, chosen) for key, group in groups.items() if split in group[0].ranks}


def _grid(group: Sequence[Outcome], split: str, chosen: npt.NDArray[np.bool_] | None) -> dict[str, Values]:
    """Each metric of a group's outcomes, [seeds, draws, users], seeds and draws in their order."""
    measured = {(outcome.seed, outcome.draw): _measure(outcome.ranks[split], chosen) for outcome in group}
    seeds, draws = ([*sorted({place[axis] for place in measured})] for axis in (0, 1))
    names = next(iter(measured.values()))
    return {name: np.array([[measured[seed, draw][name] for draw in draws] for seed in seeds]) for name in names}


def _measure(ranks: Ragged, chosen: npt.NDArray[np.bool_] | None) -> dict[str, Values]:
    return user_metrics(ranks if chosen is None else select_targets(ranks, chosen))


def _estimates(
    grids: Mapping[Key, Mapping[str, Values]], samples: Mapping[Key, int], control: str
) -> dict[Key, dict[str, Any]]:
    """The estimates of every metric of every group; all groups of as many seeds meet the same resamples."""
    drawn: dict[tuple[int, int], Resamples] = {}
    found: dict[Key, dict[str, Any]] = {}
    for key, grid in grids.items():
        # What has no seeds of its own, the untuned model, is held against every seed of the control, and every seed
        # of the others against it.
        against = {
            "difference": grids.get(control_of(key, samples, control)) if key[1] != control else None,
            "from_zero_shot": grids.get((key[0], ZERO_SHOT, None)) if key[1] != ZERO_SHOT else None,
        }
        found[key] = {}
        for name, values in grid.items():
            seeds, _, users = values.shape
            if not users:
                continue
            found[key][name] = asdict(estimate(values.mean(axis=1), _resamples(drawn, seeds, users)))
            for kind, other in against.items():
                if other is not None:
                    difference = _difference(values, other[name])
                    drawing = _resamples(drawn, len(difference), users)
                    found[key][name][kind] = asdict(estimate(difference, drawing))
    return found


def _difference(values: Values, other: Values) -> Values:
    """[S, U], the mean of the draws of `values` [S, D, U] less that of `other`; either may have one seed for all."""
    seeds = max(len(values), len(other))
    means = np.broadcast_to(values.mean(axis=1), (seeds, values.shape[2]))
    return paired_difference(means, np.broadcast_to(other, (seeds, *other.shape[1:])))


def _resamples(drawn: dict[tuple[int, int], Resamples], seeds: int, users: int) -> Resamples:
    if (seeds, users) not in drawn:
        drawn[seeds, users] = Resamples.draw(seeds, users)
    return drawn[seeds, users]


def control_of(key: Key, samples: Mapping[Key, int], control: str) -> Key:
    """What a group is held against: the control of its own size, or with the most samples where it has none."""
    model, _, size = key
    if size is not None:
        return model, control, size
    controls = [other for other in samples if other[:2] == (model, control)]
    return max(controls, key=lambda other: samples[other], default=(model, control, None))


def unequal_sizes(rows: Sequence[Mapping[str, Any]], control: str) -> list[str]:
    """A text for each selector that chose fewer or more samples than its control did for the same size."""
    of_control = {row["size"]: row["samples"] for row in rows if row["selector"] == control}
    unequal = {
        (row["selector"], row["size"]): row["samples"]
        for row in rows
        if row["size"] is not None and row["samples"] != of_control.get(row["size"], row["samples"])
    }
    return [_unequal(selector, samples, control, of_control[size]) for (selector, size), samples in unequal.items()]


def _unequal(selector: str, samples: int, control: str, of_control: int) -> str:
    chosen = f"{selector} chose {samples:,} samples where {control} chose {of_control:,}"
    if samples < of_control:
        return f"{chosen}: it had no more to choose from, so its differences are those of a smaller coreset, too"
    return f"{chosen}, which had no more to choose from, so its differences are those of a larger coreset, too"
