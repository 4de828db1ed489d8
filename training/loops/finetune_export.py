"""The tuned adapter as others load it: PEFT's files, a model card with its provenance, and the losses."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import PurePath

import safetensors.torch

from cluster.storage import Storage
from training.loops.finetune_spec import FinetuneSpec
from training.loops.training_records import BestEpoch, FinetuneLosses, FinetuneOutcome

_PACKAGES = ("torch", "transformers", "peft", "deepspeed", "ray")


def write_model(
    outcome: FinetuneOutcome,
    spec: FinetuneSpec,
    sizes: dict[str, int],
    folder: Storage,
    out: Storage,
    provenance: Mapping[str, str] | None = None,
) -> FinetuneLosses:
    """Write the best adapter, its configuration, the model card and `losses.json`; return the content of the latter.

    Parameters
    ----------
    outcome : what the training loop returned.
    sizes : samples in `train` and `valid`.
    folder : the checkpoints, with the best adapter among them.
    provenance : lines for the card about where the samples come from, by name.
    """
    file = outcome["best"]["file"]
    assert file is not None
    adapter = folder.read_bytes(file)
    empty = [name for name, tensor in safetensors.torch.load(adapter).items() if tensor.numel() == 0]
    if empty:
        raise RuntimeError(f"{len(empty)} tensors of the adapter are empty, {empty[0]} among them")
    losses = summary(outcome, spec, sizes)
    out.write_bytes("adapter_model.safetensors", adapter)
    out.write_text("adapter_config.json", json.dumps(outcome["adapter_config"], indent=2, sort_keys=True) + "\n")
    out.write_text("README.md", model_card(losses, spec, provenance or {}))
    out.write_json("losses.json", losses)
    return losses


def summary(outcome: FinetuneOutcome, spec: FinetuneSpec, sizes: dict[str, int]) -> FinetuneLosses:
    """Summarise the losses by step and epoch, the best epoch, speed, and what every worker trained with."""
    history = outcome["history"]
    best = BestEpoch(epoch=outcome["best"]["epoch"], loss=outcome["best"]["loss"])
    return {
        "train": history["train"],
        "learning_rate": history["learning_rate"],
        "valid": history["valid"],
        "untuned_loss": history["valid"][0]["loss"],
        "best": best,
        "steps": len(history["train"]),
        "epochs": history["epoch"],
        "samples": sizes,
        "tokens": history["tokens"],
        "seconds": history["seconds"],
        "valid_seconds": history["valid_seconds"],
        "peak_memory": outcome["peak_memory"],
        "trunk": outcome["trunk"],
        "tokens_per_second": history["tokens"] / max(history["seconds"], 1e-9),
        "loss_tokens": spec.settings.tokens,
        "workers": outcome["workers"],
        "versions": {package: version(package) for package in _PACKAGES} | {"python": platform.python_version()},
    }


def model_card(losses: FinetuneLosses, spec: FinetuneSpec, provenance: Mapping[str, str]) -> str:
    """Write the text of the adapter's README.md, in the form that model hubs read."""
    settings, llm = spec.settings, spec.llm
    base = public_name(llm.model)
    source = base if base == llm.model else "path/to/the/base/model"
    template = llm.template if isinstance(llm.template, str) else llm.template.get("name", "custom")
    proof = losses["workers"][0]
    rows = {
        "base model": base,
        **provenance,
        "training samples": losses["samples"]["train"],
        "validation samples": losses["samples"]["valid"],
        "prompt": f"template {template}, at most {llm.max_items} titles and {llm.max_tokens} tokens",
        "loss": f"mean over samples of the mean over {settings.tokens} tokens",
        "LoRA": f"r {spec.lora.r}, alpha {spec.lora.alpha:g}, dropout {spec.lora.dropout:g}",
        "optimizer": f"AdamW, decay {settings.weight_decay:g}",
        "rate": f"peak {settings.lr:g}, warm-up {settings.warmup:g} of the steps, cosine",
        "global batch": settings.global_batch,
        "epochs": f"{losses['epochs']} of at most {settings.epochs}, {losses['steps']} optimizer steps",
        "gradient clipping": f"{settings.clip:g}",
        "seed": f"{settings.seed}, adapter {spec.lora.seed}",
        "engine": f"DeepSpeed, ZeRO stage {proof['zero']}, {proof['world_size']} workers, {proof['backend']}",
        "weights": f"{proof['dtype']}, adapter {proof['adapter_dtype']}",
        "validation loss, untuned": f"{losses['untuned_loss']:.4f}",
        "validation loss, best": f"{losses['best']['loss']:.4f} (epoch {losses['best']['epoch']})",
        "versions": ", ".join(f"{name} {number}" for name, number in losses["versions"].items()),
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    front = "\n".join(
        [
            "---",
            f"base_model: {json.dumps(base)}",
            "library_name: peft",
            "tags: [lora, recommendation]",
            "---",
        ]
    )
    return f"""{front}

# LoRA adapter for recommendation

Tuned to answer a user's history of titles with the next title. It expects the prompt of the same template.

| | |
|---|---|
{table}

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained({json.dumps(source)})
model = PeftModel.from_pretrained(base, "path/to/this/folder")
```
"""


def public_name(model: str) -> str:
    """Return a hub name unchanged, and the last part of a local path, which says nothing about the machine."""
    local = model.startswith(("/", ".", "~")) or model.endswith(".gguf") or "\\" in model
    return PurePath(model).name if local else model
