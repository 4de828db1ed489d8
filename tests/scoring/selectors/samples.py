"""Shards to select from, and coverage selection as the papers tell it, in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np

from scoring.ids import draw_order
from scoring.ragged import Ragged
from scoring.reference import Reference, ReferenceShard
from scoring.selection import ScoreShard, Selection
from scoring.selectors.combined import tie_order
from tests.scoring.selectors.flat_params import FlatParams as SelectionParams


def make_shard(influence, effort, ok=None, first_id: int = 0) -> ScoreShard:
    influence = np.asarray(influence, dtype=np.float32)
    ids = (np.arange(len(influence), dtype=np.int64) + first_id) * 1_000_003
    usable = np.ones(len(influence), bool) if ok is None else np.asarray(ok, bool)
    return ScoreShard(ids, influence, np.asarray(effort, dtype=np.float32), usable)


def assert_same(one: Selection, two: Selection) -> None:
    for name in ("sample_id", "influence", "effort", "score", "stratum"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert json.dumps(one.report) == json.dumps(two.report)


def reference_levels(values: list[float], method: str) -> list[float]:
    """Each value's place on the common scale, with everything sorted in memory."""
    ordered, last = sorted(values), len(values) - 1
    if method == "minmax":
        ranks, levels = [0, last], [0.0, 1.0]
    elif method == "robust":
        tail = int(0.01 * last)
        ranks, levels = [tail, last - tail], [0.0, 1.0]
    else:
        ranks = sorted({j * last // 1024 for j in range(1025)})
        levels = [rank / max(last, 1) for rank in ranks]
    shared: dict[float, list[float]] = {}
    for rank, level in zip(ranks, levels, strict=True):
        shared.setdefault(ordered[rank], []).append(level)
    knots = [(value, sum(group) / len(group)) for value, group in sorted(shared.items())]
    return [reference_level(value, knots) for value in values]


def reference_level(value: float, knots: list[tuple[float, float]]) -> float:
    if len(knots) == 1:
        return knots[0][1]
    value = min(max(value, knots[0][0]), knots[-1][0])
    for (x0, y0), (x1, y1) in pairwise(knots):
        if value < x1 or (x1, y1) == knots[-1]:
            return y0 + (value - x0) / (x1 - x0) * (y1 - y0)
    raise AssertionError


def reference_choice(shard: ScoreShard, params: SelectionParams) -> dict[int, int]:
    """The method as the paper tells it, on Python lists: chosen sample id to stratum."""
    rows = [
        row
        for row in range(len(shard.ok))
        if shard.ok[row] and np.isfinite(shard.influence[row]) and np.isfinite(shard.effort[row])
    ]
    influence = reference_levels([float(shard.influence[row]) for row in rows], params.normalise)
    effort = reference_levels([float(shard.effort[row]) for row in rows], params.normalise)
    keys = draw_order(shard.sample_id, params.seed).tolist()
    ties = tie_order(shard.sample_id, params.seed).tolist()
    scored = sorted(
        (float(np.float32(i + params.lambda_ * e)), ties[row], keys[row], int(shard.sample_id[row]))
        for row, i, e in zip(rows, influence, effort, strict=True)
    )
    left = scored[: len(scored) - int(Fraction(str(params.hard_prune)) * len(scored))]
    low, width = left[0][0], left[-1][0] - left[0][0]
    strata: dict[int, list[tuple[int, int]]] = {}
    for score, _, key, sample in left:
        place = int((score - low) / width * params.strata) if width else 0
        strata.setdefault(min(place, params.strata - 1), []).append((key, sample))
    wanted = max(1, int(Fraction(str(params.size)) * len(shard.ok))) if params.size < 1 else int(params.size)
    chosen: dict[int, int] = {}
    visits = sorted(strata, key=lambda stratum: (len(strata[stratum]), stratum))
    for visited, stratum in enumerate(visits):
        take_here = min(len(strata[stratum]), wanted // (len(visits) - visited))
        wanted -= take_here
        chosen |= {sample: stratum for _, sample in sorted(strata[stratum])[:take_here]}
    return chosen


def parts_of(shard: ScoreShard, order, cuts) -> list[ScoreShard]:
    """The rows of a shard in another order, cut into parts."""
    return [shard.take(part) for part in np.split(np.asarray(order, dtype=np.int64), cuts)]


def whole_shard(count: int, seed: int = 0, items: int = 12) -> ScoreShard:
    """A shard with everything that any selector needs, three rows a user; a fifth of its rows are not ok."""
    generator = np.random.default_rng(seed)
    shard = make_shard(generator.normal(size=count), generator.lognormal(size=count), generator.random(count) > 0.2)
    shard.ok[0] = True
    embedding = generator.normal(size=(count, 6)).astype(np.float32)
    return ScoreShard(
        shard.sample_id,
        shard.influence,
        shard.effort,
        shard.ok,
        {name: generator.random(count).astype(np.float32) for name in ("el2n", "grand")},
        generator.integers(1, items + 1, count).astype(np.int32),
        histories(generator, count, items),
        np.arange(count, dtype=np.int64) // 3,
        generator.integers(0, 1000, count).astype(np.float64),
        embedding,
    )


def histories(generator: np.random.Generator, count: int, items: int) -> Ragged:
    return Ragged.from_rows([generator.integers(1, items + 1, generator.integers(1, 5)) for _ in range(count)])


def reference_samples(count: int, seed: int = 1, items: int = 12) -> Reference:
    """A reference period whose targets are the low half of the items, embedded away from the origin."""
    generator = np.random.default_rng(seed)
    target = generator.integers(1, items // 2 + 1, count).astype(np.int32)
    return reference_of(reference_shard(histories(generator, count, items), target))


def reference_shard(history: Ragged, target: np.ndarray) -> ReferenceShard:
    """Samples with a user and a history each, with ids that train has not."""
    rows = np.arange(len(target), dtype=np.int64)
    return ReferenceShard(rows + (1 << 40), history, rows, target, rows + (1 << 41))


_NOISE = np.random.default_rng(9).normal(size=(1009, 6))


def embed(history: Ragged, target: np.ndarray) -> np.ndarray:
    """Away from the origin, by target and the sum of the history."""
    sums = np.bincount(history.row_of_value(), weights=history.values, minlength=len(target)).astype(np.int64)
    return (_NOISE[(target * 101 + sums * 17) % 1009] + 2).astype(np.float32)


def reference_of(*shards: ReferenceShard, since: float | None = None) -> Reference:
    return Reference(lambda: iter(shards), sum(map(len, shards)), embed, since)


def only_shard(reference: Reference) -> ReferenceShard:
    (shard,) = reference.shards()
    return shard


def reference_parts(reference: Reference, order, cuts) -> Reference:
    """The same samples in another order, cut into parts."""
    shard = only_shard(reference)
    parts = [
        ReferenceShard(
            shard.sample_id[rows],
            shard.histories.take(shard.row[rows]),
            np.arange(len(rows)),
            shard.target[rows],
            shard.user[rows],
        )
        for rows in np.split(np.asarray(order, dtype=np.int64), cuts)
    ]
    return reference_of(*parts, since=reference.since)


def budget_of(params: SelectionParams, samples: int) -> int:
    return max(1, int(Fraction(str(params.size)) * samples)) if params.size < 1 else int(params.size)


def lowest(keys: Mapping[int, float] | Mapping[int, Sequence[float]], count: int) -> list[int]:
    """The samples with the `count` lowest keys, sorted by id."""
    return sorted(sorted(keys, key=lambda sample: (keys[sample], sample))[:count])


def waiting_times(sample_id, weights, seed: int) -> dict[int, float]:
    """Efraimidis and Spirakis' keys, a sample at a time."""
    times = {}
    for sample, weight, order in zip(sample_id.tolist(), weights, draw_order(sample_id, seed).tolist(), strict=True):
        uniform = ((order >> 12) + 0.5) / 2**52
        times[sample] = -float(np.log(uniform)) / float(weight) if weight > 0 else 1e300 + order * 1e281
    return times
