"""A toy log that an LLM can learn, and training loops that several tests share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from cluster.progress import Progress
from cluster.storage import Storage
from training.llm.llm_spec import LLMSpec, LoraSpec
from training.llm.loading import load_tokenizer
from training.llm.prompts import PromptEncoder, load_template
from training.loops.examples import encode_examples
from training.loops.finetune_spec import FinetuneSpec

if TYPE_CHECKING:
    from training.loops.finetune_loop import FinetuneJob

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


def toy_spec(model: Path | str, **changes: Any) -> FinetuneSpec:
    base = FinetuneSpec(
        llm=LLMSpec(str(model), "float32"),
        lora=LoraSpec(r=4, alpha=8, seed=3),
        epochs=2,
        global_batch=8,
        lr=1e-2,
        micro_batch_tokens=300,
        workers=2,
    )
    dtype = changes.pop("dtype", "float32")
    return replace(base, llm=LLMSpec(str(model), dtype), **changes)


def encoded(spec: FinetuneSpec, table: pa.Table) -> pa.Table:
    template = load_template(spec.template)
    encoder = PromptEncoder(load_tokenizer(spec.llm), template, TITLES, spec.max_items, spec.max_tokens)
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

    from training.loops.finetune_loop import FinetuneJob, finetune_loop

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


def _outcome(outcome: dict[str, Any], folder: Storage) -> dict[str, Any]:
    return {**outcome, "adapter": folder.read_bytes(outcome["best"]["file"])}
