"""The configurations of the runs on a share of the log."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.engine.config_file import dump_config, parse_config, parse_text
from pipeline.studies.forecast.measure import llm_side, surrogate_side


@pytest.mark.parametrize(
    ("select", "settings"),
    [
        ({"lambda": 0.3}, {"lambda": 0.3, "hard_prune": 0.0}),
        ({"settings": {"hard_prune": 0.2, "strata": 9}}, {"strata": 9, "hard_prune": 0.0}),
        ({"method": "random"}, {}),
        ({"method": "tests.own_selectors:Newest", "settings": {"skip": 0.2}}, {"skip": 0.2}),
    ],
)
def test_a_share_run_selects_by_the_configured_selector_and_tunes_on_a_random_draw(
    select: dict[str, Any], settings: dict[str, Any]
) -> None:
    config = parse_config({"data": {"interactions": "x"}, "select": select}, "c")
    first, second = surrogate_side(config, 4, 5000), llm_side(config, 2, 500, 10)
    assert (first.select.method, first.select.selector_settings()) == (config.select.method, settings)
    assert (second.select.method, second.select.selector_settings()) == ("random", {})
    for made in (first, second):
        assert parse_text(dump_config(made), "run") == made
