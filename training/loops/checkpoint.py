"""Checkpoints of a training loop: tensors in safetensors, everything else in JSON, never a pickle.

A checkpoint counts only when its JSON is there: it is written last, atomically, and carries the digest of the
tensors that belong to it. So a process may be killed at any point and the newest complete checkpoint is
found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from cluster.digest import digest
from cluster.storage import Storage

_KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, on the CPU, and the JSON state that was saved with them."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save_tensors(folder: Storage, name: str, tensors: Mapping[str, Tensor]) -> str:
    """Write one safetensors file and return its digest. Raises ValueError if a tensor is empty.

    Tied tensors are written once a name: the format knows of no shared memory.
    """
    empty = sorted(key for key, tensor in tensors.items() if tensor.numel() == 0)
    if empty:
        raise ValueError(f"{len(empty)} tensors to be saved are empty, {empty[0]} among them")
    copies = {
        key: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for key, tensor in tensors.items()
    }
    data = safetensors.torch.save(copies)
    folder.write_bytes(name, data)
    return digest(data)


def save_checkpoint(folder: Storage, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write the checkpoint of a step, then forget all but the newest two."""
    name = f"step-{step:09d}"
    tensor_digest = save_tensors(folder, f"{name}.safetensors", tensors)
    folder.write_json(f"{name}.json", {**state, "step": step, "tensors": tensor_digest})
    for old in folder.list(suffix=".json")[:-_KEPT]:
        folder.delete(old)
        folder.delete(old.removesuffix(".json") + ".safetensors")


def latest_checkpoint(folder: Storage, stamp: str) -> Checkpoint | None:
    """Return the newest complete checkpoint whose state has this `stamp`, or None.

    The stamp tells checkpoints of one training run from those of another in the same folder.
    """
    for name in reversed(folder.list(suffix=".json")):
        state = folder.read_json(name)
        file = name.removesuffix(".json") + ".safetensors"
        if state.get("stamp") != stamp or not folder.exists(file):
            continue
        data = folder.read_bytes(file)
        if digest(data) == state["tensors"]:
            return Checkpoint(safetensors.torch.load(data), state)
    return None
