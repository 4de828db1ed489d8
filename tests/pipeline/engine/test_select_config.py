from __future__ import annotations

from typing import Any

import pytest

from cluster.errors import UserError
from pipeline.engine.config import Config, SelectConfig
from pipeline.engine.config_file import dump_config, parse_config, parse_text
from pipeline.engine.fingerprint import config_part

OWN = "tests.own_selectors:"
#: The keys of the section before selectors had settings of their own.
EARLIER = {
    "hard_prune",
    "influence",
    "lambda",
    "method",
    "normalise",
    "preset",
    "reference",
    "reference_users",
    "sampling",
    "seed",
    "sharpness",
    "size",
    "strata",
    "transport_epsilon",
    "transport_points",
}


def configured(**select: Any) -> Config:
    return parse_config({"data": {"interactions": "x"}, "select": select}, "c.yaml")


def test_runs_from_before_there_were_settings_keep_their_fingerprints() -> None:
    assert {key.removeprefix("select.") for key in config_part(configured(strata=9), ["select"])} == EARLIER
    part = config_part(configured(settings={"strata": 9}), ["select"])
    assert part["select.settings"] == {"strata": 9}


@pytest.mark.parametrize(
    ("select", "settings"),
    [
        ({"lambda": 0.3, "strata": 9}, {"lambda": 0.3, "strata": 9}),
        ({"settings": {"lambda": 0.3}}, {"lambda": 0.3}),
        ({"lambda": 0.3, "settings": {"lambda": 0.3, "strata": 4}}, {"lambda": 0.3, "strata": 4}),
        ({"method": "random", "lambda": 0.3}, {}),
        (
            {"method": "goracs", "lambda": 0.3, "strata": 9, "transport_points": 7},
            {"lambda": 0.3, "transport_points": 7},
        ),
        ({"method": f"{OWN}Newest", "settings": {"skip": 0.2}}, {"skip": 0.2}),
        ({"method": f"{OWN}Newest", "strata": 7}, {"strata": 7}),
        ({"method": f"{OWN}Narrow", "lambda": 0.3}, {"lambda": 0.3}),
        ({"preset": "paper", "settings": {"lambda": 0.5}}, {"lambda": 0.5}),
    ],
)
def test_a_selector_is_given_its_own_settings_and_the_keys_that_it_has(
    select: dict[str, Any], settings: dict[str, Any]
) -> None:
    config = configured(**select)
    assert config.select.selector_settings() == settings
    assert parse_text(dump_config(config), "run").select.selector_settings() == settings


@pytest.mark.parametrize(
    ("select", "words"),
    [
        ({"settings": {"lamda": 0.1}}, "select.settings: there is no setting lamda; the settings are .*lambda"),
        ({"settings": {"lambda": -1}}, "select.settings: lambda must be at least 0, got -1"),
        ({"settings": {"lambda": True}}, "select.settings: lambda must be"),
        ({"settings": {"strata": 9}, "method": "random"}, "no setting strata; this selector has none"),
        ({"settings": {"lambda": 0.1}, "lambda": 0.2}, "lambda is 0.1 here, and select.lambda is 0.2"),
        ({"settings": [1]}, "select.settings"),
        ({"settings": {"lambda": 0.1}, "preset": "paper"}, "preset paper means lambda: 0.5"),
        ({"method": f"{OWN}Newest", "settings": {"days": 3}}, "no setting days; the settings are skip, strata"),
        ({"method": f"{OWN}Newest", "settings": {"skip": 1}}, "skip must be below 1, got 1"),
        ({"method": f"{OWN}Newst"}, "select.method: .* has no class Newst"),
        ({"method": f"{OWN}NoRank"}, "select.method: .* must define rank"),
        ({"method": "no_such_module:Newest"}, "select.method: .*PYTHONPATH"),
        ({"size": 2.5}, "size must be a share below 1 or a whole number"),
    ],
)
def test_what_a_selector_cannot_have_is_refused_by_its_key(select: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        configured(**select)


def test_the_flat_keys_are_those_of_the_built_in_selectors() -> None:
    from scoring.selection import METHODS

    flat = {field.alias or key for key, field in SelectConfig.model_fields.items()}
    assert {name for kind in METHODS.values() for name in kind.Settings.names()} <= flat
