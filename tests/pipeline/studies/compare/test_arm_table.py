"""The table against brute force, and what must not move it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from pipeline.studies.compare.arm_table import Key, comparison_rows, control_of, unequal_sizes
from pipeline.studies.compare.comparison_page import comparison_page, size_charts
from pipeline.studies.compare.comparison_rows import difference_rows, slice_rows, summary_rows
from pipeline.studies.compare.outcomes import TEST, VALID, ZERO_SHOT, Outcome
from pipeline.studies.compare.records import ArmRow, ComparisonRecord, DifferenceKind, MetricRecord
from scoring.ragged import Ragged

TARGETS = Ragged.from_rows([[1], [2, 3], [4], [5, 6, 7]])
SLICES = {"warm": np.array([1, 0, 1, 0, 1, 1, 1], dtype=bool)}


def ranks(seed: int) -> Ragged:
    values = np.random.default_rng(seed).integers(1, 30, len(TARGETS.values)).astype(np.int32)
    return Ragged(values, TARGETS.offsets)


def outcome(selector: str, size: float | None, seed: int, draw: int = 0, **facts: Any) -> Outcome:
    key = crc32(f"{selector} {size} {seed} {draw}".encode())
    splits = {TEST: ranks(key), VALID: ranks(key + 1)}
    return Outcome("m", selector, size, seed, draw, int(size or 99), splits, **facts)


def outcomes() -> list[Outcome]:
    found = [outcome(ZERO_SHOT, None, 0)]
    for seed in range(2):
        found += [outcome("top", size, seed, selection_seconds=1.0, tuning_seconds=2.0) for size in (8.0, 16.0)]
        found += [outcome("random", size, seed, draw) for size in (8.0, 16.0) for draw in range(3)]
        found.append(outcome("full", None, seed, tuning_seconds=10.0))
    return found


def recall(found: Ragged, cutoff: int, chosen: np.ndarray | None = None) -> np.ndarray:
    rows = []
    for user in range(len(found)):
        part = slice(found.offsets[user], found.offsets[user + 1])
        values = found.values[part] if chosen is None else found.values[part][chosen[part]]
        rows.append(np.mean(values <= cutoff) if len(values) else np.nan)
    return np.array(rows)


def rows() -> dict[tuple[str, float | None], ArmRow]:
    found = comparison_rows(outcomes(), SLICES, {"top": 5.0, "random": 0.0, "full": 0.0})
    return {(row["selector"], row["size"]): row for row in found}


def record(found: list[ArmRow]) -> ComparisonRecord:
    return {
        "target": "proxy",
        "selectors": ["top", "random", "full"],
        "sizes": [8, 16],
        "seeds": 2,
        "first_seed": 0,
        "draws": 3,
        "control": "random",
        "users": {"test": 4, "valid": 4},
        "asked": 18,
        "tried": 20,
        "rows": found,
        "chosen": [{"size": 8.0, "selector": "top"}, {"size": 16.0, "selector": None}],
        "warnings": [],
    }


def test_means_and_paired_differences_by_brute_force() -> None:
    everything, table = outcomes(), rows()
    for size in (8.0, 16.0):
        for part, chosen in ((TEST, None), ("warm", SLICES["warm"])):
            mine, control = (
                [
                    [
                        recall(o.ranks[TEST], 10, chosen)
                        for o in everything
                        if (o.selector, o.size, o.seed) == (name, size, seed)
                    ]
                    for seed in range(2)
                ]
                for name in ("top", "random")
            )
            found = table["top", size]["metrics"][part]["recall@10"]
            assert found["value"] == pytest.approx(np.nanmean(mine))
            difference = np.array(mine).mean(axis=1) - np.array(control).mean(axis=1)
            assert found["difference"]["value"] == pytest.approx(np.nanmean(difference))
            assert found["low"] <= found["value"] <= found["high"]
    assert "difference" not in table["random", 8.0]["metrics"][TEST]["recall@10"]


def test_verdicts_go_by_ten_whatever_the_cutoffs_are() -> None:
    costs = {"top": 5.0, "random": 0.0, "full": 0.0}
    found = comparison_rows(outcomes(), SLICES, costs, cutoffs=(1, 50))
    for row, usual in zip(found, comparison_rows(outcomes(), SLICES, costs), strict=True):
        assert {name.partition("@")[2] for name in row["metrics"][TEST]} == {"1", "10", "50"}
        assert row["metrics"][TEST]["ndcg@10"] == usual["metrics"][TEST]["ndcg@10"]
        assert (row["above_control"], row["winner"]) == (usual["above_control"], usual["winner"])
    assert "ndcg@10" in comparison_page(record(found)).lower()


def test_differences_from_zero_shot_by_a_plain_loop() -> None:
    """Every group's, the control's among them: its draws count each, zero-shot serves all seeds."""
    everything, table = outcomes(), rows()
    (untuned,) = (o for o in everything if o.selector == ZERO_SHOT)
    for (selector, size), row in table.items():
        if selector == ZERO_SHOT:
            assert not any("from_zero_shot" in found for part in row["metrics"].values() for found in part.values())
            continue
        mine = [o for o in everything if (o.selector, o.size) == (selector, size)]
        for part, split, chosen in ((TEST, TEST, None), ("warm", TEST, SLICES["warm"]), (VALID, VALID, None)):
            base = recall(untuned.ranks[split], 10, chosen)
            total = count = 0.0
            for o in mine:
                for user, value in enumerate(recall(o.ranks[split], 10, chosen)):
                    if not np.isnan(value):
                        total += value - base[user]
                        count += 1
            found = row["metrics"][part]["recall@10"]["from_zero_shot"]
            assert found["value"] == pytest.approx(total / count, abs=1e-12)
            assert found["low"] <= found["value"] <= found["high"]


def test_all_differences_of_a_row_meet_the_same_resamples() -> None:
    """What a selector gains on zero-shot by way of the control is what it gains on it, resample by resample."""
    shifted = [replace(o, ranks={TEST: TARGETS, VALID: TARGETS}) if o.selector == "random" else o for o in outcomes()]
    zero = [replace(o, ranks={TEST: TARGETS, VALID: TARGETS}) if o.selector == ZERO_SHOT else o for o in shifted]
    found = {(row["selector"], row["size"]): row["metrics"][TEST] for row in comparison_rows(zero, {}, {})}
    for metric in found["top", 8.0].values():
        # A mean of three equal draws may be rounded.
        assert metric["difference"] == pytest.approx(metric["from_zero_shot"], abs=1e-12)


def test_costs_hold_the_scores_and_are_held_against_full() -> None:
    table = rows()
    assert table["top", 8.0]["seconds"] == {
        "scoring": 5.0,
        "selection": 1.0,
        "tuning": 2.0,
        "total": 8.0,
        "of_full": 0.8,
    }
    assert table["full", None]["seconds"]["of_full"] == 1.0
    assert (table["random", 8.0]["seeds"], table["random", 8.0]["arms"]) == (2, 6)
    assert table[ZERO_SHOT, None]["arms"] == 0


def test_what_has_no_size_is_held_against_the_largest_random_coreset() -> None:
    # A share of the samples may be more than a count.
    samples: dict[Key, int] = {
        ("m", "random", 8.0): 8,
        ("m", "random", 0.5): 16,
        ("m", "top", 0.9): 29,
        ("other", "random", 32.0): 32,
    }
    assert control_of(("m", "full", None), samples, "random") == ("m", "random", 0.5)
    assert control_of(("m", "top", 8.0), samples, "random") == ("m", "random", 8.0)
    assert "difference" in rows()[ZERO_SHOT, None]["metrics"][TEST]["ndcg@10"]


def test_any_selector_may_be_the_control() -> None:
    against_random, against_top = rows(), comparison_rows(outcomes(), SLICES, {}, control="top")
    there = {(row["selector"], row["size"]): row["metrics"][TEST]["recall@10"] for row in against_top}
    back = against_random["top", 8.0]["metrics"][TEST]["recall@10"]["difference"]
    assert there["random", 8.0]["difference"]["value"] == pytest.approx(-back["value"])
    assert there["random", 8.0]["difference"]["low"] == pytest.approx(-back["high"])
    assert "difference" not in there["top", 8.0]
    assert "difference" in there["full", None]


def test_the_order_of_the_arms_changes_no_figure() -> None:
    costs = {"top": 5.0}
    plain = comparison_rows(outcomes(), SLICES, costs)
    turned = comparison_rows(outcomes()[::-1], SLICES, costs)
    key = lambda row: (row["selector"], row["size"] or 0.0)  # noqa: E731
    assert sorted(plain, key=key) == sorted(turned, key=key)


def test_a_comparison_without_a_control_has_no_differences() -> None:
    alone = [o for o in outcomes() if o.selector == "top"]
    result = record(comparison_rows(alone, {}, {}))
    (first, second) = difference_rows(result)
    assert first["ndcg@10 - random"] == second["ndcg@10 - zero-shot"] == summary_rows(result)[1]["of full"] == "-"


def test_a_smaller_coreset_than_the_controls_is_told_once_a_selector() -> None:
    found = [outcome("random", 16.0, 0), outcome("full", None, 0)]
    short = [replace(outcome("reference", 16.0, 0), model=model, samples=9) for model in ("m", "n")]
    rows = comparison_rows([*found, *short], {}, {})
    (warning,) = unequal_sizes(rows, "random")
    assert warning.startswith("reference chose 9 samples where random chose 16")
    assert "smaller coreset" in warning
    # Held the other way round, it is the others that chose more.
    (warning,) = unequal_sizes(rows, "reference")
    assert warning.startswith("random chose 16 samples where reference chose 9")
    assert "larger coreset" in warning
    assert unequal_sizes(comparison_rows(outcomes(), {}, {}), "random") == []


def test_losses_of_the_llm_are_shown_where_there_are_any() -> None:
    found = [outcome("random", 16.0, seed) for seed in (0, 1)]
    assert "valid loss" not in summary_rows(record(comparison_rows(found, {}, {})))[0]
    tuned = [replace(arm, valid_loss=loss) for arm, loss in zip(found, (2.0, 3.0), strict=True)]
    untuned = replace(outcome("random", None, 0), selector="zero-shot")
    rows = comparison_rows([untuned, *tuned], {}, {})
    assert [row["valid loss"] for row in summary_rows(record(rows))] == ["-", "2.5000"]


def test_terminal_and_page_show_every_arm() -> None:
    result = record(list(rows().values()))
    result["warnings"] = ["top chose 7 samples where random chose 8"]
    kinds: tuple[tuple[DifferenceKind, str], ...] = (("difference", "random"), ("from_zero_shot", "zero-shot"))
    for table in (summary_rows(result), difference_rows(result), slice_rows(result)):
        assert [row["selector"] for row in table] == [row["selector"] for row in result["rows"]]
    for kind, other in kinds:
        assert {f"{part} - {other}" for part in ("test", "warm", "valid")} <= set(slice_rows(result, kind)[0])
    page = comparison_page(result)
    assert "18 arms, 20 tried" in page
    assert "top chose 7 samples" in page
    assert "Validation chooses top of 8" in page
    assert page.count("<table") == 4
    assert page.count("<svg") == 1
    assert page.count("<circle") == 4
    assert "<script" not in page


def test_the_charts_of_a_model_have_one_scale() -> None:
    """Random's line is then the same picture in all of them."""
    (row,) = comparison_rows([outcome("random", 8.0, 0)], {}, {})
    found: list[ArmRow] = []
    for name, height in (("random", 0.01), ("top", 0.001), ("ccs", 0.05)):
        for size in (8, 16):
            value = height * size
            metrics: dict[str, dict[str, MetricRecord]] = {
                TEST: {"ndcg@10": {"value": value, "low": value, "high": value}}
            }
            found.append({**row, "model": "m", "selector": name, "size": size, "samples": size, "metrics": metrics})
    pictures = [str(picture) for _, picture in size_charts(found, "m", "random")]
    lines = [re.findall(r'<(?:path|polyline) class="faint"[^>]*>', picture) for picture in pictures]
    assert len(pictures) == 2
    assert lines[0]
    assert lines[0] == lines[1]
