"""What each selection needs, by one object that every asker shares."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.engine.config_file import parse_config
from pipeline.stages.selection_needs import FEATURE_NAMES, ReferenceAim, SelectionNeeds
from scoring.selection import METHODS


def needs(select: dict[str, Any], **sections: Any) -> SelectionNeeds:
    return SelectionNeeds.of(parse_config({"data": {"interactions": "x"}, "select": select, **sections}, "c"))


@pytest.mark.parametrize("method", METHODS)
def test_they_are_those_that_the_selector_exposes(method: str) -> None:
    found, chosen = needs({"method": method}), METHODS[method]
    assert (found.scores, found.features) == (tuple(chosen.scores), tuple(chosen.features))
    assert (found.reference is not None) == found.sees_validation == chosen.sees_validation
    assert set(found.feature_stages) == {*chosen.scores, *chosen.features} & set(FEATURE_NAMES)
    assert set(found.stages) - {"ingest", "surrogate"} == {"influence", "effort"} & set(chosen.scores)


@pytest.mark.parametrize(
    ("select", "aim", "sees"),
    [
        ({"influence": "reference"}, ReferenceAim("valid", False, True), True),
        ({"influence": "reference", "reference_users": "half"}, ReferenceAim("valid", True, True), True),
        ({"influence": "reference", "reference": 0.1}, ReferenceAim(0.1, False, True), False),
        # A share of the train samples has no halves.
        ({"method": "goracs", "reference": 0.1, "reference_users": "half"}, ReferenceAim(0.1, False, False), False),
        ({"method": "random", "influence": "reference"}, None, False),
    ],
)
def test_the_period_that_a_selection_is_aimed_at(select: dict[str, Any], aim: ReferenceAim | None, sees: bool) -> None:
    found = needs(select)
    assert found.reference == aim
    assert found.aims_influence == (aim is not None and aim.by_influence)
    assert found.sees_validation == sees


def test_the_influence_of_the_run_may_look_at_all_validation_users() -> None:
    valid = {"influence": {"target": "valid"}}
    assert needs({}, **valid).valid_influence
    assert needs({}, **valid).sees_validation
    assert not needs({"influence": "reference"}, **valid).valid_influence
    assert not needs({"method": "random"}, **valid).sees_validation
    assert not needs({}).valid_influence
