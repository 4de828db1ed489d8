"""The tuned adapter as others load it: PEFT's files, a model card with its provenance, and the losses."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import PurePath
from typing import Any

import safetensors.torch

from cluster.storage import Storage
from training.loops.finetune_spec import FinetuneSpec

_PACKAGES = ("torch", "transformers", "peft", "deepspeed", "ray")


def write_model(
    outcome: dict[str, Any],
    spec: FinetuneSpec,
    sizes: dict[str, int],
    folder: Storage,
    out: Storage,
    provenance: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Write the best adapter, its configuration, the model card and `losses.json`; returns the latter.

    Parameters
    ----------
    outcome : what the training loop returned.
    sizes : samples in `train` and `valid`.
    folder : the checkpoints, with the best adapter among them.
    provenance : what the card shall say about where the samples come from, by name.
    """
    adapter = folder.read_bytes(outcome["best"]["file"])
    empty = [name for name, tensor in safetensors.torch.load(adapter).items() if tensor.numel() == 0]
    if empty:
        raise RuntimeError(f"{len(empty)} tensors of the adapter are empty, {empty[0]} among them")
    losses = summary(outcome, spec, sizes)
    out.write_bytes("adapter_model.safetensors", adapter)
    out.write_text("adapter_config.json", json.dumps(outcome["adapter_config"], indent=2, sort_keys=True) + "\n")
    out.write_text("README.md", model_card(losses, spec, provenance or {}))
    out.write_json("losses.json", losses)
    return losses


def summary(outcome: dict[str, Any], spec: FinetuneSpec, sizes: dict[str, int]) -> dict[str, Any]:
    """Losses by step and epoch, the best epoch, speed, and what every worker trained with."""
    history = outcome["history"]
    best = {key: outcome["best"][key] for key in ("epoch", "loss")}
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
        "tokens_per_second": history["tokens"] / max(history["seconds"], 1e-9),
        "loss_tokens": spec.tokens,
        "workers": outcome["workers"],
        "versions": {package: version(package) for package in _PACKAGES} | {"python": platform.python_version()},
    }


def model_card(losses: dict[str, Any], spec: FinetuneSpec, provenance: Mapping[str, str]) -> str:
    """README.md of the adapter, in the form that model hubs read."""
    base = public_name(spec.llm.model)
    source = base if base == spec.llm.model else "path/to/the/base/model"
    template = spec.template if isinstance(spec.template, str) else spec.template.get("name", "custom")
    proof = losses["workers"][0]
    rows = {
        "base model": base,
        **provenance,
        "training samples": losses["samples"]["train"],
        "validation samples": losses["samples"]["valid"],
        "prompt": f"template {template}, at most {spec.max_items} titles and {spec.max_tokens} tokens",
        "loss": f"mean over samples of the mean over {spec.tokens} tokens",
        "LoRA": f"r {spec.lora.r}, alpha {spec.lora.alpha:g}, dropout {spec.lora.dropout:g}",
        "optimizer": f"AdamW, decay {spec.weight_decay:g}",
        "rate": f"peak {spec.lr:g}, warm-up {spec.warmup:g} of the steps, cosine",
        "global batch": spec.global_batch,
        "epochs": f"{losses['epochs']} of at most {spec.epochs}, {losses['steps']} optimizer steps",
        "gradient clipping": f"{spec.clip:g}",
        "seed": f"{spec.seed}, adapter {spec.lora.seed}",
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
    """A hub name as it is; of a local path the last part, which says nothing about the machine."""
    local = model.startswith(("/", ".", "~")) or model.endswith(".gguf") or "\\" in model
    return PurePath(model).name if local else model
