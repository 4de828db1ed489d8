"""Faults of a configuration are reported before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.errors import UserError
from cluster.machine_checks import Finding
from pipeline.engine.config import Config
from pipeline.preflight.before_run import CONFIG_CHECKS
from pipeline.preflight.checks import Subject, findings
from pipeline.preflight.config_checks import require_decoding


def lacks(stages: tuple[str, ...], **sections: Any) -> list[Finding]:
    config = Config.model_validate({"data": {"interactions": "-"}, **sections})
    return [finding for finding in findings(CONFIG_CHECKS, Subject(config, stages)) if finding.lack]


@pytest.mark.parametrize(
    ("stages", "sections", "message", "remedy"),
    [
        (("surrogate",), {"surrogate": {"hidden": 7}}, "surrogate: hidden (7) must be a multiple", "settings"),
        (("surrogate",), {"surrogate": {"model": "nowhere:build"}}, "'nowhere:build' cannot be imported", "settings"),
        (("influence",), {"influence": {"scope": ["last_layr"]}}, "influence.scope: no parameter", "last_feed_forward"),
        (("influence",), {"influence": {"scope": ["re:("]}}, "not a regular expression", "patterns"),
        (
            ("influence",),
            {"influence": {"solver": "ekfac", "scope": ["final_norm.*"]}},
            "influence.scope: ekfac needs linear layers",
            "last_layer",
        ),
        (
            ("influence",),
            {"influence": {"solver": "exact", "scope": ["all"]}},
            "influence.scope: solver exact takes scopes of at most 10,000",
            "last_layer",
        ),
        (("audit",), {"audit": {"scopes": ["last_layer", "lst"]}}, "audit.scopes: no parameter matches 'lst'", "all"),
        (
            ("evaluate",),
            {"evaluate": {"prior_correction": 0.5}},
            "evaluate.prior_correction is 0.5, but free decoding",
            "constrained or likelihood",
        ),
        (
            ("finetune",),
            {"finetune": {"zero": 1, "offload": "all"}},
            "finetune.offload",
            "Only finetune.zero 3 offloads the weights",
        ),
    ],
)
def test_what_would_stop_a_stage_is_told_with_its_key(
    stages: tuple[str, ...], sections: dict[str, Any], message: str, remedy: str
) -> None:
    found = [finding for finding in lacks(stages, **sections) if message in finding.lack]
    assert len(found) == 1
    assert remedy in found[0].remedy


def test_a_surrogate_that_cannot_be_built_is_told_once() -> None:
    found = lacks(("surrogate", "influence", "audit"), surrogate={"hidden": 7}, audit={"scopes": ["all"]})
    assert [finding.what for finding in found] == ["surrogate"]


def test_a_stage_that_does_not_run_is_not_asked_about() -> None:
    faulty = {"surrogate": {"hidden": 7}, "influence": {"scope": ["last_layr"]}, "llm": {"model": "/nowhere"}}
    assert not lacks(("report",), **faulty)
    assert not lacks(("select",), **faulty)
    # The audit's table reports what a solver cannot do with a scope.
    assert not lacks(("audit",), audit={"scopes": ["final_norm.*", "all"], "solvers": ["ekfac", "exact"]})


def test_the_defaults_are_feasible() -> None:
    assert not lacks(("surrogate", "influence", "audit"))


@pytest.mark.parametrize(
    ("evaluate", "titles", "message", "remedy"),
    [
        ({"decoding": "likelihood"}, 5001, "The catalogue has 5,001 titles", "evaluate.likelihood_titles to 5001"),
        (
            {"decoding": "likelihood", "likelihood_titles": 10},
            11,
            "evaluate.likelihood_titles allows 10",
            "constrained",
        ),
        (
            {"decoding": "constrained", "beams": 12},
            11,
            "evaluate.beams is 12, but the catalogue has 11 titles",
            "Lower",
        ),
    ],
)
def test_a_decoding_that_does_not_suit_the_catalogue_is_refused(
    evaluate: dict[str, Any], titles: int, message: str, remedy: str
) -> None:
    config = Config.model_validate({"data": {"interactions": "-"}, "evaluate": evaluate})
    with pytest.raises(UserError) as caught:
        require_decoding(config, titles)
    assert message in caught.value.message
    assert remedy in caught.value.remedy
    require_decoding(config, titles - 1 if evaluate["decoding"] == "likelihood" else titles + 1)


def test_default_beams_do_not_ask_for_a_larger_catalogue() -> None:
    config = Config.model_validate({"data": {"interactions": "-"}, "evaluate": {"decoding": "constrained"}})
    require_decoding(config, 3)
