"""What is wrong with a configuration and can be told before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.errors import UserError
from pipeline.config import Config
from pipeline.feasible import check_settings, setting_findings


def config(**sections: Any) -> Config:
    return Config.model_validate({"data": {"interactions": "-"}, **sections})


@pytest.mark.parametrize(
    ("stages", "sections", "message", "remedy"),
    [
        (("surrogate",), {"surrogate": {"hidden": 7}}, "surrogate: hidden .7. must be a multiple", "settings"),
        (("surrogate",), {"surrogate": {"model": "nowhere:build"}}, "'nowhere:build' cannot be imported", "settings"),
        (("influence",), {"influence": {"scope": ["last_layr"]}}, "influence.scope: no parameter", "last_feed_forward"),
        (("influence",), {"influence": {"scope": ["re:("]}}, "influence.scope: .*no regular expression", "patterns"),
        (
            ("influence",),
            {"influence": {"solver": "ekfac", "scope": ["final_norm.*"]}},
            "influence.scope: ekfac treats linear layers",
            "last_layer",
        ),
        (
            ("influence",),
            {"influence": {"solver": "exact", "scope": ["all"]}},
            "influence.scope: solver exact takes scopes of at most 10,000",
            "last_layer",
        ),
        (("audit",), {"audit": {"scopes": ["last_layer", "lst"]}}, "audit.scopes: no parameter matches 'lst'", "all"),
    ],
)
def test_what_would_stop_a_stage_is_told_with_its_key(
    stages: tuple[str, ...], sections: dict[str, Any], message: str, remedy: str
) -> None:
    faulty = config(**sections)
    with pytest.raises(UserError, match=message) as caught:
        check_settings(faulty, stages)
    assert remedy in caught.value.remedy
    assert [finding.remedy for finding in setting_findings(faulty, stages)] == [caught.value.remedy]


def test_a_stage_that_does_not_run_is_not_asked_about() -> None:
    faulty = config(surrogate={"hidden": 7}, influence={"scope": ["last_layr"]})
    check_settings(faulty, ["report"])
    # What a solver cannot do with a scope is for the audit's table to say.
    check_settings(config(audit={"scopes": ["final_norm.*", "all"], "solvers": ["ekfac", "exact"]}), ["audit"])


def test_the_defaults_are_feasible() -> None:
    check_settings(config(), ["surrogate", "influence", "audit"])


@pytest.mark.parametrize(
    ("files", "lacking"),
    [
        (["model.safetensors", "tokenizer.json"], "no configuration"),
        (["model.safetensors", "config.json"], "no tokenizer"),
        (["config.json", "tokenizer.json", "pytorch_model.bin"], "no weights"),
        (["config.json", "tokenizer.json", "model-00001-of-00002.safetensors"], None),
    ],
)
def test_a_folder_with_a_part_of_a_model_is_told(tmp_path: Path, files: list[str], lacking: str | None) -> None:
    for name in files:
        (tmp_path / name).write_text("{}")
    found = setting_findings(config(llm={"model": str(tmp_path)}), ["effort"])
    assert [lacking is not None and lacking in finding.lack for finding in found] == [True] * (lacking is not None)
