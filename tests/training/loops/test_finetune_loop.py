"""The DeepSpeed loop on two real workers against a plain PyTorch loop in one process."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from peft import set_peft_model_state_dict

from cluster.progress import SilentProgress
from cluster.storage import Storage
from tests.tiny_llm import make_tiny_llm
from tests.training.finetune_runs import Runs, encoded, toy_examples, toy_spec, train_all
from training.llm.loading import load_llm, load_tokenizer
from training.llm.lora import attach_lora
from training.loops.examples import Encoded
from training.loops.finetune_batches import global_batches
from training.loops.finetune_spec import FinetuneSpec
from training.loops.launch import Launch, launch
from training.loops.schedule import warm_up_cosine
from training.loops.trunk_states import CacheSettings
from training.loops.worker_placement import Placement

TRAIN, VALID = 20, 6
EXACT = [f"zero {stage}" for stage in range(4)]
HALF = [f"zero {stage} float16" for stage in range(4)]
HAS_HALF = torch.ops.mkldnn._is_mkldnn_fp16_supported()
EARLY = "zero 1 patience"
VARIANTS: dict[str, dict[str, Any]] = {
    **{f"zero {stage}": {"zero": stage, "checkpoint_steps": 1} for stage in range(4)},
    "zero 2 offload": {"zero": 2, "offload": "optimizer", "epochs": 1},
    "zero 3 offload recompute": {"zero": 3, "offload": "all", "activation_checkpointing": True, "epochs": 1},
    "zero 2 recompute": {"zero": 2, "activation_checkpointing": True, "epochs": 1},
    "zero 2 all tokens": {"zero": 2, "tokens": "all", "epochs": 1},
    "zero 2 bfloat16": {"zero": 2, "dtype": "bfloat16", "epochs": 1, "checkpoint_steps": 1},
    "zero 3 bfloat16": {"zero": 3, "dtype": "bfloat16", "epochs": 1},
    **{
        name: {"zero": stage, "dtype": "float16", "epochs": 1, "checkpoint_steps": 1} for stage, name in enumerate(HALF)
    },
    **{f"zero {stage} upper": {"zero": stage, "layers": 1, "checkpoint_steps": 1} for stage in range(4)},
    "zero 2 upper uncached": {"zero": 2, "layers": 1, "cache_gib": 0},
    "zero 3 upper uncached": {"zero": 3, "layers": 1, "cache_gib": 0},
    "zero 2 upper recompute": {"zero": 2, "layers": 1, "activation_checkpointing": True, "epochs": 1},
    "zero 3 upper recompute": {"zero": 3, "layers": 1, "activation_checkpointing": True, "epochs": 1},
    "zero 2 upper bfloat16": {"zero": 2, "layers": 1, "dtype": "bfloat16", "epochs": 1},
    "zero 2 dropout": {"zero": 2, "lora_dropout": 0.2, "checkpoint_steps": 1},
    EARLY: {"zero": 1, "lr": 1.0, "epochs": 12, "patience": 1, "checkpoint_steps": 1},
}


def _named(*names: str) -> list[Any]:
    """Variants to ask about; DeepSpeed refuses float16 on processors without instructions for it."""
    missing = pytest.mark.skipif(not HAS_HALF, reason="these processors cannot compute in float16")
    return [pytest.param(name, marks=missing) if name in HALF else name for name in names]


UPPER = [name for name in VARIANTS if "upper" in name]
RESUMED = [*EXACT, *(f"zero {stage} upper" for stage in range(4)), "zero 2 bfloat16", "zero 2 dropout", EARLY, *HALF]


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FinetuneSpec]:
    model = make_tiny_llm(tmp_path_factory.mktemp("llm"))
    made = {}
    for name, changes in VARIANTS.items():
        if name in HALF and not HAS_HALF:
            continue
        spec = toy_spec(model, **changes)
        if "upper" in name and "uncached" not in name:
            folder = str(tmp_path_factory.mktemp("states"))
            spec = replace(spec, cache=CacheSettings(folder))
        made[name] = spec
    return made


@pytest.fixture(scope="module")
def outcomes(
    specs: dict[str, FinetuneSpec], tmp_path_factory: pytest.TempPathFactory, ray_local: None
) -> dict[str, Any]:
    """All variants on the two ranks of one Ray Train run, in which real DeepSpeed engines train."""
    root = Storage.at(tmp_path_factory.mktemp("runs"))
    for name, spec in specs.items():
        folder = root.child(name.replace(" ", "-"), "examples")
        folder.write_table("train.parquet", encoded(spec, toy_examples(TRAIN, 0)))
        folder.write_table("valid.parquet", encoded(spec, toy_examples(VALID, 1)))
    pad_id = int(load_tokenizer(specs["zero 0"].source).pad_token_id)
    run = Launch("finetune", "variants", 2, Placement(), {"DS_ACCELERATOR": "cpu"})
    found: dict[str, Any] = launch(
        train_all, Runs(specs, root, pad_id, tuple(RESUMED), tuple(EXACT)), run, root.child("scratch"), SilentProgress()
    )
    return found


def loss_of(model: Any, prompt: Any) -> torch.Tensor:
    """The model's own loss of one sample."""
    ids = torch.tensor([prompt.input_ids])
    labels = ids.clone()
    labels[:, : prompt.response_start] = -100
    loss: torch.Tensor = model(input_ids=ids, labels=labels).loss
    return loss


def mean_loss(model: Any, prompts: Encoded) -> float:
    with torch.no_grad():
        return float(np.mean([loss_of(model, prompt).item() for prompt in prompts]))


@functools.cache
def reference_losses(spec: FinetuneSpec) -> tuple[list[float], list[float]]:
    """Losses by step and by epoch of a plain loop: one process, sample by sample, the model's own loss."""
    settings = spec.settings
    prompts = Encoded(encoded(spec, toy_examples(TRAIN, 0)), settings.tokens)
    held_out = Encoded(encoded(spec, toy_examples(VALID, 1)), settings.tokens)
    model = attach_lora(load_llm(spec.source), spec.lora)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay)

    steps: list[float] = []
    valid = [mean_loss(model, held_out)]
    total = -(-TRAIN // settings.global_batch) * settings.epochs
    for epoch in range(settings.epochs):
        for rows in global_batches(TRAIN, settings.global_batch, settings.seed, epoch):
            factor = warm_up_cosine(len(steps), int(np.ceil(settings.warmup * total)), total)
            optimizer.param_groups[0]["lr"] = settings.lr * factor
            loss = torch.stack([loss_of(model, prompts[row]) for row in rows]).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, settings.clip)
            optimizer.step()
            optimizer.zero_grad()
            steps.append(loss.item())
        valid.append(mean_loss(model, held_out))
    return steps, valid


@pytest.mark.parametrize("name", _named(*(name for name in VARIANTS if "dropout" not in name and name != EARLY)))
def test_two_workers_follow_a_plain_loop(name: str, specs: dict[str, FinetuneSpec], outcomes: dict[str, Any]) -> None:
    spec = specs[name]
    steps, valid = reference_losses(
        replace(
            spec,
            settings=spec.settings.model_copy(
                update={"zero": 0, "offload": "none", "activation_checkpointing": False, "checkpoint_steps": 0}
            ),
        )
    )
    history = outcomes[name]["history"]
    tolerance = 2e-4 if spec.llm.dtype == "float32" else 2e-2
    np.testing.assert_allclose(history["train"], steps, rtol=tolerance)
    np.testing.assert_allclose([row["loss"] for row in history["valid"]], valid, rtol=tolerance)


@pytest.mark.parametrize("name", _named(*VARIANTS))
def test_every_rank_trains_with_a_deepspeed_engine_of_the_stage_asked(
    name: str, specs: dict[str, FinetuneSpec], outcomes: dict[str, Any]
) -> None:
    workers = outcomes[name]["workers"]
    assert [worker["rank"] for worker in workers] == [0, 1]
    assert len({worker["pid"] for worker in workers}) == 2
    for worker in workers:
        assert worker["engine"] == "deepspeed.runtime.engine.DeepSpeedEngine"
        assert (worker["zero"], worker["world_size"]) == (specs[name].settings.zero, 2)
        assert (worker["backend"], worker["device"]) == ("gloo", "cpu")
        assert worker["dtype"] == specs[name].llm.dtype
        assert worker["adapter_dtype"] == ("float16" if "float16" in name.split() else "float32")
    assert ("ZeroOptimizer" in workers[0]["optimizer"]) == (specs[name].settings.zero > 0)


@pytest.mark.parametrize("name", _named(*VARIANTS))
def test_no_tensor_of_the_adapter_is_empty(name: str, outcomes: dict[str, Any]) -> None:
    tensors = safetensors.torch.load(outcomes[name]["adapter"])
    layers = 1 if name in UPPER else 2
    assert len(tensors) == 4 * layers  # query and value, A and B
    for key, tensor in tensors.items():
        assert tensor.numel() > 0
        assert tensor.dtype == torch.float32
        assert tensor.abs().sum() > 0, key


@pytest.mark.parametrize("name", _named(*RESUMED))
def test_a_resumed_run_ends_like_the_undisturbed_one(name: str, outcomes: dict[str, Any]) -> None:
    whole, resumed = outcomes[name], outcomes[f"{name} resumed"]
    assert resumed["history"]["train"] == whole["history"]["train"]
    assert resumed["history"]["valid"] == whole["history"]["valid"]
    assert resumed["adapter"] == whole["adapter"]


@pytest.mark.parametrize("name", UPPER)
def test_states_are_kept_once_a_sample(name: str, specs: dict[str, FinetuneSpec], outcomes: dict[str, Any]) -> None:
    folder = specs[name].cache.folder
    spec = specs[name]
    tables = [encoded(spec, toy_examples(count, seed)) for count, seed in ((TRAIN, 0), (VALID, 1))]
    different = {tuple(ids) for table in tables for ids in table.column("input_ids").to_pylist()}
    kept = len(list(Path(folder).rglob("*.safetensors"))) if folder else 0
    assert kept == (len(different) if folder else 0)


@pytest.mark.parametrize("stage", [2, 3])
def test_states_that_are_computed_again_change_nothing(stage: int, outcomes: dict[str, Any]) -> None:
    kept, again = outcomes[f"zero {stage} upper"], outcomes[f"zero {stage} upper uncached"]
    assert again["history"]["train"] == kept["history"]["train"]
    assert again["history"]["valid"] == kept["history"]["valid"]
    assert again["adapter"] == kept["adapter"]


@pytest.mark.parametrize("name", EXACT)
def test_a_run_goes_on_from_a_checkpoint_before_its_first_step(name: str, outcomes: dict[str, Any]) -> None:
    """As float16 leaves one whose first steps have overflowed: Adam has no moments yet."""
    whole, begun = outcomes[name], outcomes[f"{name} begun"]
    assert begun["history"]["train"] == whole["history"]["train"]
    assert begun["adapter"] == whole["adapter"]


def test_patience_stops_and_the_best_adapter_is_kept(specs: dict[str, FinetuneSpec], outcomes: dict[str, Any]) -> None:
    spec, outcome = specs[EARLY], outcomes[EARLY]
    losses = [row["loss"] for row in outcome["history"]["valid"]]
    best = outcome["best"]
    assert best["epoch"] == int(np.argmin(losses[1:])) + 1
    assert len(losses) - 1 == best["epoch"] + spec.settings.patience < spec.settings.epochs
    assert best["loss"] == losses[best["epoch"]] < losses[-1]
    model = attach_lora(load_llm(spec.source), spec.lora)
    set_peft_model_state_dict(model, safetensors.torch.load(outcome["adapter"]))
    assert mean_loss(model, Encoded(encoded(spec, toy_examples(VALID, 1)), spec.settings.tokens)) == pytest.approx(
        best["loss"], rel=1e-4
    )


def test_training_lowers_the_validation_loss(outcomes: dict[str, Any]) -> None:
    valid = outcomes["zero 2"]["history"]["valid"]
    assert valid[0]["step"] == 0
    assert outcomes["zero 2"]["best"]["loss"] < valid[0]["loss"]


def test_each_epoch_takes_every_sample_once(specs: dict[str, FinetuneSpec], outcomes: dict[str, Any]) -> None:
    spec = specs["zero 2"]
    history = outcomes["zero 2"]["history"]
    lengths = [len(prompt.input_ids) for prompt in Encoded(encoded(spec, toy_examples(TRAIN, 0)), "response")]
    assert len(history["train"]) == 6
    assert history["tokens"] == spec.settings.epochs * sum(lengths)
