"""A toy log that an LLM can learn, and training loops that several tests share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.progress import Progress
from cluster.storage import Storage
from training.llm.llm_config import LlmConfig
from training.llm.loading import load_tokenizer
from training.llm.prompts import PromptEncoder, load_template
from training.loops.examples import encode_examples
from training.loops.finetune_config import FinetuneConfig
from training.loops.finetune_spec import FinetuneJob, FinetuneSpec
from training.loops.training_records import FinetuneOutcome
from training.loops.worker_placement import Placement

ITEMS = 12
TITLES = ["", *(f"Title {number}" for number in range(1, ITEMS + 1))]


def toy_examples(count: int, seed: int) -> pa.Table:
    """The target is always the item after the last one."""
    generator = np.random.default_rng(seed)
    histories = [generator.integers(1, ITEMS + 1, generator.integers(1, 6)).tolist() for _ in range(count)]
    return pa.table(
        {
            "history": pa.array(histories, pa.list_(pa.int32())),
            "target": pa.array([history[-1] % ITEMS + 1 for history in histories], pa.int32()),
        }
    )


TOY_SETTINGS: dict[str, Any] = {
    "lora_r": 4,
    "lora_alpha": 8,
    "lora_dropout": 0.0,
    "epochs": 2,
    "patience": 0,
    "global_batch": 8,
    "lr": 1e-2,
    "micro_batch_tokens": 300,
    "workers": 2,
}


def toy_spec(
    model: Path | str, dtype: str = "float32", placement: Placement | None = None, **changes: Any
) -> FinetuneSpec:
    llm = LlmConfig.model_validate({"model": str(model), "dtype": dtype, "max_items": 10})
    settings = FinetuneConfig.model_validate({**TOY_SETTINGS, **changes})
    return FinetuneSpec(llm, settings, placement=placement or Placement())


def encoded(spec: FinetuneSpec, table: pa.Table) -> pa.Table:
    llm = spec.llm
    template = load_template(llm.template)
    encoder = PromptEncoder(load_tokenizer(spec.source), template, TITLES, llm.max_items, llm.max_tokens)
    return encode_examples(table, encoder)


@dataclass(frozen=True)
class Runs:
    """Specs by name, and where each finds its examples and leaves its checkpoints."""

    specs: dict[str, FinetuneSpec]
    root: Storage
    pad_id: int
    interrupted: tuple[str, ...]
    begun: tuple[str, ...]


def train_all(runs: Runs, progress: Progress) -> dict[str, Any]:
    """Trains every spec on the ranks of one Ray Train run; those named in `interrupted` once more, from the
    checkpoint before the last, as if they had been killed; those in `begun` once more in a folder of their own, from
    a checkpoint before the first step. Returns outcomes by name, "<name> resumed" and "<name> begun" too."""
    import torch.distributed as dist

    from training.loops.finetune_loop import finetune_loop

    outcomes: dict[str, Any] = {}
    for name, spec in runs.specs.items():
        folder = runs.root.child(name.replace(" ", "-"))
        job = FinetuneJob(spec, folder, spec.stamp(), runs.pad_id)
        outcomes[name] = _outcome(finetune_loop(job, progress), folder)
        if name in runs.interrupted:
            dist.barrier()
            if dist.get_rank() == 0:
                folder.delete(folder.list(suffix=".json")[-1])
            dist.barrier()
            outcomes[f"{name} resumed"] = _outcome(finetune_loop(job, progress), folder)
        if name in runs.begun:
            outcomes[f"{name} begun"] = _begun(job, runs.root.child(name.replace(" ", "-") + "-begun"), progress)
    return outcomes


def _begun(job: FinetuneJob, folder: Storage, progress: Progress) -> dict[str, Any]:
    import torch.distributed as dist

    from training.loops.finetune_loop import Tuner, finetune_loop

    if dist.get_rank() == 0:
        for name in ("examples/train.parquet", "examples/valid.parquet"):
            folder.write_bytes(name, job.folder.read_bytes(name))
    dist.barrier()
    copy = replace(job, folder=folder)
    tuner = Tuner(copy)
    tuner.validate()
    tuner.save()
    tuner.engine.destroy()
    dist.barrier()
    return _outcome(finetune_loop(copy, progress), folder)


def _outcome(outcome: FinetuneOutcome, folder: Storage) -> dict[str, Any]:
    assert outcome["best"]["file"] is not None
    return {**outcome, "adapter": folder.read_bytes(outcome["best"]["file"])}
