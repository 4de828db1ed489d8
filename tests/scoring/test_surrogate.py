from __future__ import annotations

import pytest
import torch

from scoring.errors import ScopeError, SettingError
from scoring.sasrec import SASRecConfig
from scoring.surrogate import Surrogate, build_surrogate, surrogate_scope


def test_a_built_surrogate_satisfies_the_protocol_and_rebuilds_itself() -> None:
    model = build_surrogate("sasrec", 9, {"hidden": 8, "loss": "bce"})
    assert isinstance(model, Surrogate)
    again = build_surrogate("sasrec", 9, model.config_dict())
    assert again.config == model.config
    states = zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(one, two) for one, two in states)


def test_the_catalogue_size_given_takes_precedence() -> None:
    assert build_surrogate("sasrec", 4, SASRecConfig(item_count=9)).item_count == 4


def test_the_default_scope_lies_behind_the_last_attention_whatever_the_depth() -> None:
    model = build_surrogate("sasrec", 4, {"blocks": 3, "hidden": 8})
    names = surrogate_scope(model, None).names
    assert len(names) == 4
    assert all(name.startswith("blocks.2.feed_forward.") for name in names)
    assert len(surrogate_scope(model, ["last_block"]).names) == 12


def test_named_scopes_and_patterns_mix() -> None:
    model = build_surrogate("sasrec", 4, {"blocks": 2, "hidden": 8})
    names = surrogate_scope(model, ["last_layer", "final_norm.*"]).names
    assert set(names) == {
        "blocks.1.feed_forward.outer.weight",
        "blocks.1.feed_forward.outer.bias",
        "final_norm.weight",
        "final_norm.bias",
    }
    assert surrogate_scope(model, ["all"]).names == tuple(name for name, _ in model.named_parameters())
    with pytest.raises(ScopeError, match="no parameter matches 'penultimate'"):
        surrogate_scope(model, ["penultimate"])


def test_unknown_names_and_settings_are_refused() -> None:
    with pytest.raises(SettingError, match="choose one of sasrec"):
        build_surrogate("gru", 3, {})
    with pytest.raises(SettingError, match="cannot be imported"):
        build_surrogate("tests.own_surrogate:missing", 3, {})
    with pytest.raises(SettingError, match="a Linear, which is no Surrogate"):
        build_surrogate("tests.own_surrogate:build_nothing", 3, {})
    with pytest.raises(SettingError, match="width"):
        build_surrogate("sasrec", 3, {"width": 5})
