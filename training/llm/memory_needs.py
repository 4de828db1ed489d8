"""Estimates of the memory that work takes, in bytes; `cluster.resources` checks whether workers fit on nodes."""

from __future__ import annotations

from pathlib import Path

import psutil

#: A machine or node with less free memory is refused: the interpreter, Ray, and one worker do not fit.
LEAST_FREE = 2 * 2**30
#: An interpreter with torch and transformers, and the activations of a batch of a small model.
_PROCESS = 2**30
#: Loading holds some tensors twice.
_WEIGHTS_HELD = 1.25
#: The share of the free memory that Ray reserves for its object store; workers get the rest.
_OBJECT_STORE = 0.3
#: The most bytes, and the largest share of the free memory, of weights that are loaded to inspect a model.
_LOADED_TO_LOOK, _SHARE_TO_LOOK = 2**30, 0.25

_WEIGHTS = (".safetensors", ".bin", ".gguf")


def free_memory() -> int:
    """Return the free memory of this machine, in bytes."""
    return int(psutil.virtual_memory().available)


def memory_for_workers() -> int:
    """Return the bytes that an embedded Ray would give its workers on this machine."""
    return int(free_memory() * (1 - _OBJECT_STORE))


def llm_worker_memory(model: str) -> int:
    """Return the bytes of memory that a worker with the LLM needs: the libraries, a batch and the weights."""
    return _PROCESS + int(_WEIGHTS_HELD * weight_bytes(model))


def loads_to_look(model: str) -> bool:
    """Return whether the weights are on this machine, and small enough to load the model only to inspect it."""
    return 0 < weight_bytes(model) <= min(_LOADED_TO_LOOK, _SHARE_TO_LOOK * free_memory())


def weight_bytes(model: str) -> int:
    """Return the bytes of the LLM's weights in a file, a folder or the hub's cache on this machine, or 0 if absent."""
    path = Path(model) if Path(model).exists() else _cached(model)
    if path is None:
        return 0
    files = [path] if path.is_file() else [entry for entry in path.iterdir() if entry.suffix in _WEIGHTS]
    return sum(file.stat().st_size for file in files)


def _cached(model: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
