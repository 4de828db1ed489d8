"""Fine-tuning as a stage calls it: files, refusals, and a worker killed half-way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from cluster.errors import UserError
from cluster.progress import SilentProgress
from cluster.storage import Storage
from tests.tiny_llm import make_tiny_llm
from tests.training.finetune_runs import TITLES, encoded, toy_examples, toy_spec
from tests.training.killing import Killer, checkpoint_states
from training.llm.token_batches import collate
from training.loops.examples import Encoded
from training.loops.finetune_data import sample_losses
from training.loops.finetune_launch import finetune
from training.loops.finetune_spec import FinetuneSpec
from training.loops.training_records import FinetuneLosses
from training.loops.worker_placement import Placement

TUNED: dict[str, Any] = {"zero": 3, "epochs": 15, "checkpoint_steps": 2}


class Recorder:
    def __init__(self) -> None:
        self.updates: list[tuple[int, int, dict[str, Any]]] = []

    def update(self, done: int, total: int, **facts: Any) -> None:
        self.updates.append((done, total, facts))


def tune(spec: FinetuneSpec, root: Path, progress: Any = None) -> FinetuneLosses:
    storage = Storage.at(root)
    return finetune(
        spec,
        toy_examples(20, 0),
        toy_examples(6, 1),
        TITLES,
        storage.child("model"),
        storage.child("scratch"),
        progress or SilentProgress(),
    )


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llm(tmp_path_factory.mktemp("llm"))


@pytest.fixture(scope="module")
def tuned(llm: Path, tmp_path_factory: pytest.TempPathFactory, ray_local: None) -> tuple[Path, Recorder]:
    """On two workers and undisturbed, with its checkpoints: what kills and other workers are held to."""
    root = tmp_path_factory.mktemp("tuned")
    progress = Recorder()
    tune(toy_spec(llm, **TUNED), root, progress)
    return root, progress


@pytest.mark.slow
def test_the_adapter_loads_with_peft_and_has_the_loss_that_was_measured(
    llm: Path, tuned: tuple[Path, Recorder]
) -> None:
    folder = tuned[0] / "model"
    losses = json.loads((folder / "losses.json").read_text())
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(llm), str(folder)).eval()
    prompts = Encoded(encoded(toy_spec(llm), toy_examples(6, 1)), "response")
    with torch.no_grad():
        loss = sample_losses(model, collate(prompts, 0)).mean().item()
    assert loss == pytest.approx(losses["best"]["loss"], rel=1e-4)
    assert loss < losses["untuned_loss"]


def test_the_files_are_whole_and_name_their_origin(llm: Path, tuned: tuple[Path, Recorder]) -> None:
    folder = tuned[0] / "model"
    tensors = safetensors.torch.load_file(folder / "adapter_model.safetensors")
    assert all(tensor.numel() > 0 for tensor in tensors.values())
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(llm)
    assert (config["r"], config["peft_type"], config["inference_mode"]) == (4, "LORA", True)
    card = (folder / "README.md").read_text()
    assert "ZeRO stage 3, 2 workers" in card
    assert "training samples | 20" in card
    assert str(llm.parent) not in card


def test_losses_record_every_step_and_epoch(tuned: tuple[Path, Recorder]) -> None:
    losses = json.loads((tuned[0] / "model" / "losses.json").read_text())
    assert losses["steps"] == len(losses["train"]) == len(losses["learning_rate"]) == 45
    assert [(row["epoch"], row["step"]) for row in losses["valid"]] == [(epoch, 3 * epoch) for epoch in range(16)]
    assert losses["best"]["loss"] == min(row["loss"] for row in losses["valid"][1:])
    assert losses["tokens_per_second"] > 0
    assert [worker["zero"] for worker in losses["workers"]] == [3, 3]


def test_progress_reaches_the_driver(tuned: tuple[Path, Recorder]) -> None:
    done, total, facts = tuned[1].updates[-1]
    assert (done, total) == (45, 45)
    assert facts["epoch"] == 15


def test_a_repeated_call_finds_the_work_done(llm: Path, tuned: tuple[Path, Recorder]) -> None:
    before = (tuned[0] / "model" / "adapter_model.safetensors").read_bytes()
    shutil.rmtree(tuned[0] / "model")
    progress = Recorder()
    losses = tune(toy_spec(llm, **TUNED), tuned[0], progress)
    assert progress.updates == []
    assert losses["steps"] == 45
    assert (tuned[0] / "model" / "adapter_model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"workers": 9, "global_batch": 32}, "finetune.workers is 9"),
        ({"placement": Placement(use_gpu=True)}, "no node of the cluster has one"),
        ({"zero": 2, "offload": "all"}, "finetune.offload"),
        ({"workers": 3, "global_batch": 2}, "finetune.workers"),
    ],
)
def test_what_cannot_be_is_refused_at_once(
    llm: Path, tmp_path: Path, ray_local: None, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(UserError, match=named) as caught:
        tune(toy_spec(llm, **changes), tmp_path)
    assert caught.value.remedy


def test_a_missing_compiler_is_named(
    llm: Path, tmp_path: Path, ray_local: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"g\+\+ is missing"):
        tune(toy_spec(llm), tmp_path)


def test_no_sample_is_refused(llm: Path, tmp_path: Path, ray_local: None) -> None:
    with pytest.raises(UserError, match="no validation sample"):
        finetune(
            toy_spec(llm),
            toy_examples(4, 0),
            toy_examples(0, 0),
            TITLES,
            Storage.at(tmp_path),
            Storage.at(tmp_path),
            SilentProgress(),
        )


@pytest.mark.slow
def test_a_killed_worker_resumes_to_the_same_bytes(llm: Path, tuned: tuple[Path, Recorder], tmp_path: Path) -> None:
    undisturbed = json.loads((tuned[0] / "model" / "losses.json").read_text())
    scratch = Storage.at(tmp_path / "scratch")
    killer = Killer(scratch, "finetune-", checkpoints=2)
    killer.start()
    killed = tune(toy_spec(llm, **TUNED), tmp_path)
    killer.join()
    assert killer.step is not None
    assert killer.step < undisturbed["steps"]
    last = checkpoint_states(scratch, "finetune-")[-1]
    assert killer.killed not in [worker["pid"] for worker in last["workers"]]
    assert killed["train"] == undisturbed["train"]
    assert killed["valid"] == undisturbed["valid"]
    files = [root / "model" / "adapter_model.safetensors" for root in (tuned[0], tmp_path)]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
def test_a_run_resumes_on_fewer_workers_and_then_on_more(
    llm: Path, tuned: tuple[Path, Recorder], tmp_path: Path
) -> None:
    whole = json.loads((tuned[0] / "model" / "losses.json").read_text())
    shutil.copytree(tuned[0] / "scratch", tmp_path / "scratch")
    scratch = Storage.at(tmp_path / "scratch")
    folder = scratch.child(next(p.name for p in Path(scratch.uri).iterdir() if p.name.startswith("finetune-")))

    def interrupt() -> int:
        """Back to the checkpoint before the last; its step."""
        folder.delete(folder.list(suffix=".json")[-1])
        folder.delete("done")
        return int(checkpoint_states(scratch, "finetune-")[-1]["step"])

    steps = interrupt()
    assert 0 < steps < whole["steps"]
    leaner = {**TUNED, "workers": 1, "zero": 2, "activation_checkpointing": True, "micro_batch_tokens": 150}
    resumed = tune(toy_spec(llm, **leaner), tmp_path)
    assert resumed["steps"] == whole["steps"]
    assert resumed["train"][:steps] == whole["train"][:steps]
    assert resumed["best"]["loss"] == pytest.approx(whole["best"]["loss"], rel=1e-4)
    assert [(worker["world_size"], worker["zero"]) for worker in resumed["workers"]] == [(1, 2)]
    steps = interrupt()
    assert 0 < steps < whole["steps"]
    grown = tune(toy_spec(llm, **TUNED), tmp_path)
    assert grown["steps"] == whole["steps"]
    assert grown["train"][:steps] == resumed["train"][:steps]
    assert grown["best"]["loss"] == pytest.approx(whole["best"]["loss"], rel=1e-4)
    assert [(worker["world_size"], worker["zero"]) for worker in grown["workers"]] == [(2, TUNED["zero"])] * 2
