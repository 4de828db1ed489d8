"""The laws recover times that were made by the laws themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.config import Config
from pipeline.stages.stage_list import STAGE_NAMES
from pipeline.studies.forecast.laws import Forecast, coreset_size, forecasts, total
from pipeline.studies.forecast.measure import Measured, RunSize, whole_scale

LARGE = RunSize(interactions=8000, users=1000, items=500, samples=900, test_users=100, targets=6000, valid_users=80)
SMALL = RunSize(interactions=800, users=100, items=60, samples=90, test_users=10, targets=600, valid_users=8)
WHOLE = RunSize(80_000, 10_000, 500, 9000, 1000, 60_000, 800)
ALIKE = dict.fromkeys(("influence", "effort", "evaluate"), 2)
CONFIG = Config.model_validate(
    {
        "data": {"interactions": "-"},
        "surrogate": {"epochs": 10},
        "influence": {"curvature_samples": 450},
        "select": {"size": 100},
        "finetune": {"epochs": 3, "valid_users": 40},
        "evaluate": {"users": 200},
    }
)


def large() -> Measured:
    epoch = {"seconds": 3.0, "samples_per_second": 2000.0, "valid_seconds": 0.8}
    facts: dict[str, Any] = {
        "surrogate": {"epochs": [epoch, epoch], "workers": 2, "peak_memory": 100},
        "influence": {
            "gradient_seconds": 2.0,
            "solve_seconds": 5.0,
            "curvature_samples": 450,
            "busy_seconds": 8.0,
            "workers": 2,
            "peak_memory": 1,
        },
        "effort": {"busy_seconds": 40.0, "scored": 20, "tokens": 2000, "workers": 2, "peak_memory": 1},
    }
    seconds = {"ingest": 4.0 + 8.0, "surrogate": 9 + 7.6, "influence": 3 + 2 + 5 + 4, "effort": 6 + 20, "select": 1.9}
    return Measured(LARGE, seconds, facts, {"ingest": 7, "select": 8})


def small() -> Measured:
    facts: dict[str, Any] = {
        "finetune": {
            "epochs": 1,
            "samples": {"train": 16, "valid": 8},
            "tokens": 1600,
            "tokens_per_second": 100.0,
            "seconds": 16.0,
            "valid_seconds": 4.0,
            "trunk": None,
            "peak_memory": 1,
        },
        "evaluate": {
            "titles": 60,
            "title_seconds": 6.0,
            "users": 10,
            "busy_seconds": 20.0,
            "workers": 2,
            "peak_memory": 1,
        },
    }
    seconds = {"ingest": 4.8, "select": 1.09, "finetune": 30.0, "evaluate": 8.0 + 13.0, "report": 2.0}
    return Measured(SMALL, seconds, facts, {"report": 9})


def rows(config: Config = CONFIG, workers: dict[str, int] = ALIKE) -> dict[str, Forecast]:
    return {row.stage: row for row in forecasts(config, large(), small(), WHOLE, workers)}


def test_every_stage_is_its_fixed_time_and_its_work() -> None:
    found = {stage: (row.fixed, row.work) for stage, row in rows().items()}
    expected = {
        "ingest": (4.0, 80.0),
        "surrogate": (9.0, 10 * (30.0 + 8.0)),
        "influence": (3.0, 20.0 + 5.0 + 40.0),
        "effort": (6.0, 9000 * 2.0 / 2),
        "select": (1.0, 9.0),
        "finetune": (10.0, 3 * 100 * 1.0 + 4 * 40 * 0.25),
        "evaluate": (8.0, (500 * 0.1 + 200 * 2.0) / 2),
        "report": (2.0, 0.0),
    }
    assert set(found) == set(expected)
    for stage, pair in expected.items():
        assert found[stage] == pytest.approx(pair), stage


def test_states_of_frozen_layers_are_work_of_one_epoch() -> None:
    facts = small().facts
    tuned = {**facts["finetune"], "trunk": {"samples": 24, "tokens": 2400, "seconds": 6.0}}
    measured = replace(small(), facts={**facts, "finetune": tuned})
    (row,) = (row for row in forecasts(CONFIG, large(), measured, WHOLE, ALIKE) if row.stage == "finetune")
    assert (row.fixed, row.work) == pytest.approx((4.0, 3 * 100 * 1.0 + 4 * 40 * 0.25 + (100 + 40) * 0.25))


def test_the_driver_is_what_holds_memory_where_it_works_itself() -> None:
    assert {stage: rows()[stage].memory for stage in ("ingest", "select", "report")} == {
        "ingest": 7,
        "select": 8,
        "report": 9,
    }


def test_the_share_itself_is_forecast_as_it_was() -> None:
    config = CONFIG.model_copy(update={"surrogate": CONFIG.surrogate.model_copy(update={"epochs": 2})})
    same = {row.stage: row for row in forecasts(config, large(), small(), LARGE, ALIKE)}
    for stage in ("ingest", "surrogate", "influence", "select"):
        assert same[stage].seconds == pytest.approx(large().seconds[stage])


def test_more_workers_share_the_work_and_not_the_start() -> None:
    alike, wider = rows(), rows(workers=dict.fromkeys(ALIKE, 8))
    for stage in ("influence", "effort", "evaluate"):
        assert wider[stage].work == pytest.approx(alike[stage].work / 4)
        assert wider[stage].fixed == alike[stage].fixed


def test_candidates_limit_what_effort_costs() -> None:
    tenth = CONFIG.model_copy(update={"effort": CONFIG.effort.model_copy(update={"candidates": 0.1})})
    assert rows(tenth)["effort"].work == pytest.approx(rows()["effort"].work / 10)


def test_the_dearest_stage_is_named() -> None:
    summed = total(list(rows().values()))
    assert summed["dominating"] == "effort"
    assert summed["seconds"] == pytest.approx(sum(row.seconds for row in rows().values()))


def test_a_coreset_is_a_share_a_count_or_everything() -> None:
    def sized(**keys: object) -> int:
        return coreset_size(CONFIG.model_copy(update={"select": CONFIG.select.model_copy(update=keys)}), 9000)

    assert (sized(size=0.02), sized(size=64.0), sized(size=1e6), sized(method="full")) == (180, 64, 9000, 9000)


def test_shares_that_are_the_whole_log_forecast_what_they_took() -> None:
    """Shares that differ by one interaction, or by none, must not turn 4.8 seconds into hours."""
    for apart in (0, 1):
        share = replace(LARGE, interactions=LARGE.interactions - apart, samples=LARGE.samples - apart)
        alike = replace(small(), scale=share)
        found = {row.stage: row for row in forecasts(CONFIG, large(), alike, LARGE, ALIKE)}
        for stage in ("ingest", "select"):
            assert found[stage].seconds == pytest.approx(large().seconds[stage])
            assert "do not show" not in found[stage].basis
        ten_times = {row.stage: row for row in forecasts(CONFIG, large(), alike, WHOLE, ALIKE)}
        assert ten_times["ingest"].seconds == pytest.approx(10 * large().seconds["ingest"])
        assert ten_times["ingest"].basis == "80,000 interactions; the shares do not show how it grows"


def test_a_slow_first_epoch_counts_once() -> None:
    measured = large()
    first = measured.facts["surrogate"]["epochs"][0]
    epochs = [{**first, "seconds": 9.0, "samples_per_second": 6000 / 9}, first]
    slow = replace(
        measured,
        facts={**measured.facts, "surrogate": {**measured.facts["surrogate"], "epochs": epochs}},
        seconds={**measured.seconds, "surrogate": measured.seconds["surrogate"] + 6.0},
    )
    row = {row.stage: row for row in forecasts(CONFIG, slow, small(), WHOLE, ALIKE)}["surrogate"]
    assert (row.fixed, row.work) == (pytest.approx(9.0 + 6.0), pytest.approx(10 * (30.0 + 8.0)))


@given(
    st.sampled_from(("surrogate", "influence", "effort", "finetune", "evaluate")),
    st.lists(st.integers(1, 10**6), min_size=2, max_size=2),
)
def test_more_of_everything_takes_no_less(stage: str, factors: list[int]) -> None:
    less, more = (
        {row.stage: row for row in forecasts(CONFIG, large(), small(), _scaled(factor), ALIKE)}[stage]
        for factor in sorted(factors)
    )
    assert 0 < less.seconds <= more.seconds
    assert more.seconds <= less.seconds * (max(factors) / min(factors)) * (1 + 1e-9)


def _scaled(factor: int) -> RunSize:
    return RunSize(*(factor * size for size in LARGE.__dict__.values()))


def test_runs_of_next_to_nothing_forecast_something() -> None:
    """A log of a few rows, measured by a clock that showed no time passing."""
    facts: dict[str, dict[str, Any]] = {
        stage: dict.fromkeys(found, 0) for stage, found in {**large().facts, **small().facts}.items()
    }
    facts["surrogate"]["epochs"] = [{"seconds": 1e-6, "samples_per_second": 1e6, "valid_seconds": 0.0}]
    facts["influence"]["workers"] = facts["effort"]["workers"] = facts["evaluate"]["workers"] = 1
    facts["finetune"] |= {"samples": {"train": 0, "valid": 0}, "tokens_per_second": 1e-9}
    nothing = Measured(
        RunSize(1, 1, 1, 0, 0, 0, 0), dict.fromkeys(STAGE_NAMES, 0.0), facts, dict.fromkeys(STAGE_NAMES, 0)
    )
    found = forecasts(CONFIG, nothing, nothing, WHOLE, ALIKE)
    assert [row.stage for row in found] == list(STAGE_NAMES)
    assert all(0 <= row.seconds < 1 for row in found)


def test_a_whole_that_is_estimated_is_no_smaller_than_its_share() -> None:
    whole = whole_scale(LARGE, LARGE.interactions, LARGE.users - 10, LARGE.items, 500)
    assert (whole.samples, whole.targets, whole.test_users) == (LARGE.samples, LARGE.targets, LARGE.test_users)


def test_what_is_not_counted_grows_with_users_or_interactions() -> None:
    whole = whole_scale(LARGE, 80_000, 10_000, 700, 500)
    assert whole == replace(WHOLE, items=700, valid_users=500)


@pytest.mark.parametrize(
    ("size", "samples", "expected"),
    [(0.0019, 1000, 1), (0.9999, 1000, 999), (0.29, 100, 29), (0.02, 10, 1), (500, 90, 90)],
)
def test_the_coreset_is_as_large_as_the_selection_makes_it(size: float, samples: int, expected: int) -> None:
    config = CONFIG.model_copy(update={"select": CONFIG.select.model_copy(update={"size": size})})
    assert coreset_size(config, samples) == expected
