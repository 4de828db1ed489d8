from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from cluster.storage import Storage
from training.llm.llm_config import LlmConfig
from training.loops.finetune_export import public_name, write_model
from training.loops.finetune_spec import FinetuneSpec
from training.loops.training_records import FinetuneOutcome, RankEvidence


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M"),
        ("/home/somebody/models/smol", "smol"),
        ("./models/smol", "smol"),
        ("models/smol.gguf", "smol.gguf"),
    ],
)
def test_a_card_names_no_machine_path(model: str, name: str) -> None:
    assert public_name(model) == name


def outcome(folder: Storage, tensor: torch.Tensor) -> FinetuneOutcome:
    folder.write_bytes("best.safetensors", safetensors.torch.save({"a": tensor}))
    worker = RankEvidence(
        pid=1,
        node_id="node",
        rank=0,
        world_size=1,
        engine="DeepSpeedEngine",
        optimizer="AdamW",
        zero=2,
        backend="gloo",
        accelerator="cpu",
        device="cpu",
        dtype="bfloat16",
        adapter_dtype="float32",
        threads=1,
    )
    return {
        "history": {
            "epoch": 1,
            "index": 0,
            "train": [2.0],
            "learning_rate": [0.1],
            "valid": [{"epoch": 0, "step": 0, "loss": 3.0}, {"epoch": 1, "step": 1, "loss": 2.5}],
            "tokens": 40,
            "seconds": 2.0,
            "valid_seconds": 1.0,
        },
        "best": {"epoch": 1, "loss": 2.5, "file": "best.safetensors"},
        "workers": [worker],
        "peak_memory": 1 << 30,
        "trunk": None,
        "trainable": [[2]],
        "adapter_config": {"r": 8},
    }


def test_files_and_losses(tmp_path: Path) -> None:
    folder, out = Storage.at(tmp_path / "scratch"), Storage.at(tmp_path / "model")
    spec = FinetuneSpec(LlmConfig(model="/secret/place/smol", template={"name": "mine", "instruction": "x"}))
    losses = write_model(
        outcome(folder, torch.ones(2)), spec, {"train": 7, "valid": 3}, folder, out, {"coreset": "random, 7 of 90"}
    )
    assert losses == json.loads(out.read_text("losses.json"))
    assert (losses["untuned_loss"], losses["tokens_per_second"]) == (3.0, 20.0)
    assert out.list() == ["README.md", "adapter_config.json", "adapter_model.safetensors", "losses.json"]
    card = out.read_text("README.md")
    assert "secret" not in card
    assert "| coreset | random, 7 of 90 |" in card
    assert "| template mine" in card or "template mine," in card
    assert card.startswith('---\nbase_model: "smol"\n')


def test_an_empty_tensor_never_leaves(tmp_path: Path) -> None:
    folder = Storage.at(tmp_path)
    spec = FinetuneSpec(LlmConfig(model="smol"))
    with pytest.raises(RuntimeError, match="empty"):
        write_model(outcome(folder, torch.empty(0)), spec, {"train": 1, "valid": 1}, folder, folder.child("m"))
    assert not folder.exists("m")
