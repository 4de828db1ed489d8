from __future__ import annotations

import torch

from scoring.encoded import EncodedObjective
from scoring.objective import (
    batch_tensors,
    evaluation,
    outputs_function,
    prepare_batches,
    reduce_to_scope,
    scope_parameters,
    with_tensors,
)
from scoring.scope import select_scope
from tests.scoring.cases import CASES, history_batches, sasrec


def test_outputs_follow_the_parameters_given() -> None:
    case = CASES["mlp-squared"]()
    function = outputs_function(case.objective, case.scope)
    parameters = scope_parameters(case.objective, case.scope)
    batch = case.batches[0]
    torch.testing.assert_close(function(parameters, batch), case.objective.outputs(batch))
    zeros = {name: torch.zeros_like(value) for name, value in parameters.items()}
    assert (function(zeros, batch) == 0).all()
    assert (case.objective.outputs(batch) != 0).all()


def test_nothing_below_the_scope_is_differentiated() -> None:
    model = sasrec()
    scope = select_scope(model, ["final_norm.*"])
    outputs = outputs_function(model, scope)(scope_parameters(model, scope), history_batches()[0])
    assert not outputs.requires_grad


def test_evaluation_mode_is_restored_module_by_module() -> None:
    model = sasrec().train()
    model.blocks[0].eval()
    with evaluation(model):
        assert not any(part.training for part in model.modules())
    assert model.training
    assert model.blocks[1].training
    assert not model.blocks[0].training


def test_a_scope_in_the_head_keeps_the_whole_model() -> None:
    model = sasrec()
    assert reduce_to_scope(model, select_scope(model, ["item_embedding.*"])) is model
    view = reduce_to_scope(model, select_scope(model, ["blocks.1.*"]))
    assert isinstance(view, EncodedObjective)
    network = CASES["mlp-squared"]()
    assert reduce_to_scope(network.objective, network.scope) is network.objective
    assert prepare_batches(network.objective, network.batches, True) == network.batches


def test_batches_come_apart_and_together() -> None:
    batch = history_batches()[0]
    tensors = batch_tensors(batch)
    assert len(tensors) == 3
    again = with_tensors(batch, [part[:1] for part in tensors])
    assert type(again) is type(batch)
    assert again.states is None
    assert again.history.shape[0] == 1
    assert torch.equal(with_tensors(tensors[0], [tensors[1]]), tensors[1])
    assert with_tensors((tensors[0], None), [tensors[1]])[1] is None
