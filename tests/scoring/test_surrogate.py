from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from scoring.batching import SequenceBatch
from scoring.exceptions import ScopeError, SettingError
from scoring.gradients import directional_derivatives, per_sample_gradients
from scoring.sasrec import SASRecConfig
from scoring.surrogate import Surrogate, build_surrogate, surrogate_scope
from tests.scoring.cases import history_batches

GUIDE = Path(__file__).parents[2] / "docs" / "SURROGATE.md"


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
    with pytest.raises(SettingError, match="a Linear, which is not a Surrogate"):
        build_surrogate("tests.own_surrogate:build_nothing", 3, {})
    with pytest.raises(SettingError, match="KeyError: 'width'"):
        build_surrogate("tests.own_surrogate:build", 3, {"max_history": 5})
    with pytest.raises(SettingError, match="width"):
        build_surrogate("sasrec", 3, {"width": 5})
    with pytest.raises(SettingError, match="cannot be built with these settings"):
        build_surrogate("sasrec", 3, {"seed": 2**64})


@pytest.mark.parametrize("scope", ["mix", "all"])
def test_the_example_of_the_guide_keeps_its_rules(monkeypatch: pytest.MonkeyPatch, scope: str) -> None:
    found = re.search(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    module = ModuleType("my_surrogate")
    exec(found[1], module.__dict__)
    monkeypatch.setitem(sys.modules, "my_surrogate", module)
    check_rules("my_surrogate:build", scope)


def check_rules(name: str, scope: str) -> None:
    """A surrogate rebuilds itself, its losses agree, and its derivatives are those of plain autograd."""
    items = max(int(batch.target.max()) for batch in history_batches()) + 20
    model = build_surrogate(name, items, {"width": 4, "max_history": 9}).double()
    again = build_surrogate(name, items, model.config_dict())
    assert again.state_dict().keys() == model.state_dict().keys()
    parameters = surrogate_scope(model, [scope])
    for batch in history_batches():
        loss = model.per_sample_loss(batch)
        for row, found_loss in enumerate(loss):
            length = int(batch.lengths[row])
            alone = torch.cat([batch.history[row, :length], batch.target[row : row + 1]])[None]
            total, count = model.sequence_loss(SequenceBatch(alone, torch.tensor([length - 1])))
            assert count == 1
            torch.testing.assert_close(total, found_loss)
        gradients = per_sample_gradients(model, parameters, batch)
        wanted = [named for name, named in model.named_parameters() if name in parameters.names]
        for row, found_loss in enumerate(loss):
            plain = torch.autograd.grad(found_loss, wanted, retain_graph=True)
            torch.testing.assert_close(gradients[row], torch.cat([part.flatten() for part in plain]))
        direction = gradients.mean(0)
        derivatives = directional_derivatives(model, parameters, direction, batch)
        torch.testing.assert_close(derivatives, gradients @ direction)
