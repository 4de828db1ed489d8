"""No selector wins that is not above the untuned model, whatever happened to the control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.studies.compare.arm_table import comparison_rows
from pipeline.studies.compare.comparison_page import comparison_page
from pipeline.studies.compare.comparison_rows import difference_rows, summary_rows
from pipeline.studies.compare.outcomes import TEST, VALID, ZERO_SHOT, Outcome
from pipeline.studies.compare.records import ArmRow, ComparisonRecord
from pipeline.studies.compare.verdict import chosen_by_validation, conclusions, harmful_control
from scoring.ragged import Ragged

USERS, SEEDS = 60, 10
BASE = np.random.default_rng(0).integers(1, 15, USERS)


def arm(selector: str, seed: int, shift: int, draw: int = 0, **facts: Any) -> Outcome:
    """Every user's target stands `shift` places lower than by the untuned model."""
    places = Ragged(np.maximum(BASE + shift, 1).astype(np.int32), np.arange(USERS + 1))
    size = None if selector in (ZERO_SHOT, "full") else 8.0
    return Outcome("m", selector, size, seed, draw, 8, {TEST: places, VALID: places}, **facts)


def table(shifts: dict[str, Sequence[int]], model: str = "m") -> list[ArmRow]:
    """Rows of arms by how much lower they put the targets, one number a seed; random in three draws."""
    found = [arm(ZERO_SHOT, 0, 0)]
    for selector, places in shifts.items():
        for draw in range(3 if selector == "random" else 1):
            found += [arm(selector, seed, s, draw, best_step=40 * (s != 0)) for seed, s in enumerate(places)]
    return comparison_rows([replace(outcome, model=model) for outcome in found], {}, {})


def result(rows: list[ArmRow], control: str = "random") -> ComparisonRecord:
    return {
        "target": "proxy",
        "selectors": ["random"],
        "sizes": [8.0],
        "seeds": SEEDS,
        "first_seed": 0,
        "draws": 3,
        "control": control,
        "users": {"test": USERS},
        "rows": rows,
        "chosen": chosen_by_validation(rows),
        "warnings": [],
        "asked": 1,
        "tried": 1,
    }


def by_name(rows: list[ArmRow]) -> dict[str, ArmRow]:
    return {row["selector"]: row for row in rows}


def test_where_tuning_harms_random_what_stays_untuned_does_not_win() -> None:
    rows = table({"random": [6] * SEEDS, "stays": [0] * SEEDS, "gains": [-5] * SEEDS})
    found = by_name(rows)
    difference = found["stays"]["metrics"][TEST]["ndcg@10"]["difference"]
    assert difference["low"] > 0
    from_zero_shot = found["stays"]["metrics"][TEST]["ndcg@10"]["from_zero_shot"]
    assert [from_zero_shot[end] for end in ("value", "low", "high")] == [0.0, 0.0, 0.0]
    assert (found["stays"]["untuned"], found["stays"]["arms"]) == (SEEDS, SEEDS)
    assert (found["stays"]["above_control"], found["stays"]["winner"]) == (True, False)
    assert (found["gains"]["untuned"], found["gains"]["winner"]) == (0, True)
    shown = {row["selector"]: row for row in summary_rows(result(rows))}
    assert shown["stays"]["untuned"] == "10/10"
    assert shown["stays"]["above, beyond chance"] == "random"
    assert shown["gains"]["above, beyond chance"] == "random, zero-shot"
    assert shown["random"]["untuned"] == "0/30"
    assert shown[ZERO_SHOT]["untuned"] == "-"
    said = conclusions(result(rows))
    assert said == ["m: above random and zero-shot beyond chance: gains", "Validation chooses gains"]
    assert all(sentence in comparison_page(result(rows)) for sentence in said)
    (warning,) = harmful_control(rows, "random")
    assert warning.startswith("m: tuning on random does harm")


def test_nothing_wins_and_nothing_is_chosen_where_all_that_beats_random_is_untuned() -> None:
    rows = table({"random": [6] * SEEDS, "stays": [0] * SEEDS, "harms": [3] * SEEDS})
    assert not any(row["winner"] for row in rows)
    assert chosen_by_validation(rows) == [{"size": 8.0, "selector": None}]
    said = conclusions(result(rows))
    assert said[0].endswith(": none")
    assert said[1].startswith("Validation chooses no coreset")


def test_some_arms_at_step_0_are_counted() -> None:
    found = by_name(table({"random": [-1] * SEEDS, "some": [0, 0, 0, -5, -5, -5, -5, -5, -5, -5]}))
    assert found["some"]["best_steps"] == [0, 0, 0, *[40] * 7]
    assert found["some"]["untuned"] == 3
    assert found["some"]["winner"]


def test_random_untuned_in_all_draws_is_above_nothing() -> None:
    """The mean over three equal draws is off by a rounding error."""
    rows = table({"random": [0] * SEEDS, "stays": [0] * SEEDS})
    assert not any(row["above_control"] or row["above_zero_shot"] for row in rows)
    assert harmful_control(rows, "random") == []


def test_the_choice_must_be_above_zero_shot_by_every_model() -> None:
    first = table({"random": [1] * SEEDS, "both": [-1] * SEEDS, "one": [-9] * SEEDS}, "m")
    second = table({"random": [1] * SEEDS, "both": [-1] * SEEDS, "one": [0] * SEEDS}, "n")
    assert chosen_by_validation(first) == [{"size": 8.0, "selector": "one"}]
    assert chosen_by_validation(first + second) == [{"size": 8.0, "selector": "both"}]
    # What has looked at all validation users is not judged by them.
    assert chosen_by_validation(first, unfit=["one"]) == [{"size": 8.0, "selector": "both"}]


def test_full_is_no_coreset_to_choose_but_may_win() -> None:
    rows = table({"random": [1] * SEEDS, "full": [-9] * SEEDS, "top": [-1] * SEEDS})
    assert by_name(rows)["full"]["winner"]
    assert chosen_by_validation(rows) == [{"size": 8.0, "selector": "top"}]


@pytest.mark.parametrize(("losses", "chosen"), [((1.5, 1.8), "top"), ((1.9, 1.8), "random"), ((2.1, 2.0), None)])
def test_the_llm_is_chosen_by_a_loss_below_the_untuned_one(losses: tuple[float, float], chosen: str | None) -> None:
    found = [replace(arm(ZERO_SHOT, 0, 0), ranks={TEST: arm("x", 0, 0).ranks[TEST]})]
    for name, loss in zip(("top", "random"), losses, strict=True):
        made = arm(name, 0, -1, best_step=8 * (loss < 2), valid_loss=loss, untuned_loss=2.0)
        found.append(replace(made, ranks={TEST: made.ranks[TEST]}))
    rows = comparison_rows(found, {}, {})
    assert chosen_by_validation(rows) == [{"size": 8.0, "selector": chosen}]
    assert by_name(rows)["top"]["untuned_loss"] == 2.0


def test_without_a_control_or_validation_nothing_is_said() -> None:
    alone = [arm(ZERO_SHOT, 0, 0), arm("top", 0, -1, best_step=8)]
    rows = comparison_rows([replace(o, ranks={TEST: o.ranks[TEST]}) for o in alone], {}, {})
    assert conclusions(result(rows)) == []
    assert difference_rows(result(rows))[1]["ndcg@10 - zero-shot"] != "-"
