"""Turn the ranks of all arms into one row per model, selector and size: means, paired differences, and cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from pipeline.engine.estimate_record import estimate_record
from pipeline.studies.compare.arms import RANDOM
from pipeline.studies.compare.outcomes import TEST, VALID, ZERO_SHOT, Outcome
from pipeline.studies.compare.records import (
    ArmRow,
    DifferenceKind,
    MetricRecord,
    SecondsRecord,
)
from pipeline.studies.compare.verdict import verdict
from scoring.comparison import Resamples, estimate, paired_difference
from scoring.ragged import Ragged
from scoring.selection import FULL
from training.ranking.cutoffs import CUTOFFS, HEADLINE_CUTOFF
from training.ranking.ranking_metrics import select_targets, user_metrics

Values = npt.NDArray[np.float64]
#: A model, a selector and a size.
Key = tuple[str, str, float | None]


def comparison_rows(
    outcomes: Sequence[Outcome],
    slices: Mapping[str, npt.NDArray[np.bool_]],
    scoring_seconds: Mapping[str, float],
    control: str = RANDOM,
    cutoffs: Sequence[int] = CUTOFFS,
) -> list[ArmRow]:
    """Return a row for each model, selector and size, in the order of `outcomes`.

    Parameters
    ----------
    outcomes : the outcomes of all arms; every selector has the same training seeds.
    slices : sets of test targets by name, bool [M] each.
    scoring_seconds : the cost of the scores by selector.
    control : the selector that the others are compared with.
    cutoffs : those of the metrics. NDCG@10 decides verdicts, so 10 is always among them.

    Returns
    -------
    The rows, as `ArmRow` describes them. `metrics` holds, for each part of the targets ("test", its slices, "valid")
    and each metric, the mean, its difference from the control's coreset of the same size, and its difference from
    zero-shot, both over the same resamples of seeds and users. `full` is compared with the control's largest coreset.
    """
    groups: dict[Key, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.model, outcome.selector, outcome.size), []).append(outcome)
    rows = {key: _facts(group, scoring_seconds) for key, group in groups.items()}
    for (model, _, _), row in rows.items():
        full = rows.get((model, FULL, None))
        total = row["seconds"]["total"]
        row["seconds"]["of_full"] = total / full["seconds"]["total"] if full and full["seconds"]["total"] else None
    samples = {key: row["samples"] for key, row in rows.items()}
    for part, values in _parts(groups, slices, sorted({HEADLINE_CUTOFF, *cutoffs})):
        for key, found in _estimates(values, samples, control).items():
            rows[key]["metrics"][part] = found
    for row in rows.values():
        row.update(verdict(row["metrics"]))
    return list(rows.values())


def _facts(group: Sequence[Outcome], scoring_seconds: Mapping[str, float]) -> ArmRow:
    """Return the row of a group without its metrics and verdict."""
    first = group[0]
    scoring = scoring_seconds.get(first.selector, 0.0)
    selection = float(np.mean([outcome.selection_seconds for outcome in group]))
    tuning = float(np.mean([outcome.tuning_seconds for outcome in group]))
    seconds = SecondsRecord(
        scoring=scoring, selection=selection, tuning=tuning, total=scoring + selection + tuning, of_full=None
    )
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
        "seconds": seconds,
        "metrics": {},
        **verdict({}),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _parts(
    groups: Mapping[Key, Sequence[Outcome]], slices: Mapping[str, npt.NDArray[np.bool_]], cutoffs: Sequence[int]
) -> Iterator[tuple[str, dict[Key, dict[str, Values]]]]:
    """Yield the metrics of every group, [seeds, draws, users] each, for each part of the targets."""
    sliced = [(name, TEST, chosen) for name, chosen in slices.items()]
    for part, split, chosen in [(TEST, TEST, None), *sliced, (VALID, VALID, None)]:
        here = {key: group for key, group in groups.items() if split in group[0].ranks}
        yield part, {key: _grid(group, split, chosen, cutoffs) for key, group in here.items()}


def _grid(
    group: Sequence[Outcome], split: str, chosen: npt.NDArray[np.bool_] | None, cutoffs: Sequence[int]
) -> dict[str, Values]:
    """Return each metric of a group's outcomes, [seeds, draws, users], ordered by seed and draw."""
    measured = {(outcome.seed, outcome.draw): _measure(outcome.ranks[split], chosen, cutoffs) for outcome in group}
    seeds, draws = ([*sorted({place[axis] for place in measured})] for axis in (0, 1))
    names = next(iter(measured.values()))
    return {name: np.array([[measured[seed, draw][name] for draw in draws] for seed in seeds]) for name in names}


def _measure(ranks: Ragged, chosen: npt.NDArray[np.bool_] | None, cutoffs: Sequence[int]) -> dict[str, Values]:
    return user_metrics(ranks if chosen is None else select_targets(ranks, chosen), cutoffs)


def _estimates(
    grids: Mapping[Key, Mapping[str, Values]], samples: Mapping[Key, int], control: str
) -> dict[Key, dict[str, MetricRecord]]:
    """Estimate every metric of every group; groups with the same number of seeds share their resamples."""
    drawn: dict[tuple[int, int], Resamples] = {}
    found: dict[Key, dict[str, MetricRecord]] = {}
    for key, grid in grids.items():
        # The untuned model has no seeds, so it is compared with every seed of the others.
        against: dict[DifferenceKind, Mapping[str, Values] | None] = {
            "difference": grids.get(control_of(key, samples, control)) if key[1] != control else None,
            "from_zero_shot": grids.get((key[0], ZERO_SHOT, None)) if key[1] != ZERO_SHOT else None,
        }
        found[key] = {}
        for name, values in grid.items():
            seeds, _, users = values.shape
            if not users:
                continue
            metric = MetricRecord(**estimate_record(estimate(values.mean(axis=1), _resamples(drawn, seeds, users))))
            for kind, other in against.items():
                if other is not None:
                    difference = _difference(values, other[name])
                    drawing = _resamples(drawn, len(difference), users)
                    metric[kind] = estimate_record(estimate(difference, drawing))
            found[key][name] = metric
    return found


def _difference(values: Values, other: Values) -> Values:
    """Return [S, U]: the mean over the draws of `values` [S, D, U] less that of `other`; one seed broadcasts to all."""
    seeds = max(len(values), len(other))
    means = np.broadcast_to(values.mean(axis=1), (seeds, values.shape[2]))
    return paired_difference(means, np.broadcast_to(other, (seeds, *other.shape[1:])))


def _resamples(drawn: dict[tuple[int, int], Resamples], seeds: int, users: int) -> Resamples:
    if (seeds, users) not in drawn:
        drawn[seeds, users] = Resamples.draw(seeds, users)
    return drawn[seeds, users]


def control_of(key: Key, samples: Mapping[Key, int], control: str) -> Key:
    """Return the control of a group: that of its own size, or the largest one where the group has no size."""
    model, _, size = key
    if size is not None:
        return model, control, size
    controls = [other for other in samples if other[:2] == (model, control)]
    return max(controls, key=lambda other: samples[other], default=(model, control, None))


def unequal_sizes(rows: Sequence[ArmRow], control: str) -> list[str]:
    """Return a warning for each selector that chose fewer or more samples than its control for the same size."""
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
        return f"{chosen}: it found no more usable samples, so its differences also reflect a smaller coreset"
    return f"{chosen}: {control} found no more usable samples, so the differences also reflect a larger coreset"
