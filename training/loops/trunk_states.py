"""The trunk's states of the training samples, computed once for each sample and kept on the node's disk.

A sample's states depend on its tokens alone, so the tokens name the file. Every epoch, rank, restart and arm of a
comparison with the same tokens reads the same bytes. If the disk has no room, states are computed again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import Tensor

from training.llm.token_batches import TokenBatch
from training.llm.trunk import Trunk

log = logging.getLogger("dealrec.finetune")

_NAME = "states"
_SHARE_OF_FREE_DISK = 0.5


@dataclass(frozen=True)
class CacheSettings:
    """Settings of where a node keeps states.

    Attributes
    ----------
    folder : a path on the node; "" keeps nothing.
    limit : the most bytes of all ranks of a node together; None for half of the free disk.
    """

    folder: str = ""
    limit: int | None = None


class StateCache:
    """Keeps states as files in a folder, up to a number of bytes. Several processes may share the folder.

    Parameters
    ----------
    ranks : the number of processes that share the limit.
    """

    def __init__(self, settings: CacheSettings, ranks: int) -> None:
        self._folder = Path(settings.folder)
        self._left = 0
        if not settings.folder or settings.limit == 0:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            held = sum(file.stat().st_size for file in self._folder.rglob("*.safetensors"))
            free = shutil.disk_usage(self._folder).free
        except OSError as error:
            log.warning("States of the frozen layers are not kept, because %s", error)
            return
        limit = settings.limit if settings.limit is not None else held + int(free * _SHARE_OF_FREE_DISK)
        self._left = min(max(limit - held, 0), free) // ranks

    def get(self, key: str) -> Tensor | None:
        """Return the tensor under a key, or None."""
        file = self._file(key)
        try:
            return safetensors.torch.load_file(file)[_NAME]
        except (OSError, SafetensorError):
            return None

    def put(self, key: str, states: Tensor) -> None:
        """Keep a tensor if there is room for it. A file appears complete or not at all."""
        size = states.numel() * states.element_size()
        if size > self._left:
            if self._left > 0:
                log.info("The disk has no room for more states of the frozen layers; they are computed again")
            self._left = 0
            return
        file = self._file(key)
        partial = file.with_name(f"{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            safetensors.torch.save_file({_NAME: states.contiguous()}, partial)
            partial.replace(file)
        except (OSError, SafetensorError) as error:
            partial.unlink(missing_ok=True)
            log.warning("States of the frozen layers are no longer kept, because %s", error)
            self._left = 0
            return
        self._left -= size

    def _file(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.safetensors"


class TrunkStates:
    """Gives the states of batches, from the cache or from the trunk.

    Parameters
    ----------
    trunk : the trunk of the model on `device`.
    lockstep : whether a pass through the trunk is collective, as under ZeRO-3, so that all ranks must make the same
        number of passes.
    """

    def __init__(self, trunk: Trunk, cache: StateCache, device: torch.device, lockstep: bool = False) -> None:
        self.trunk = trunk
        self._cache = cache
        self._device = device
        self._lockstep = lockstep
        self.computed = 0
        self.seconds = 0.0

    def of(self, batch: TokenBatch) -> Tensor:
        """Return the states of a batch, [B, T, d], zero on padding. With `lockstep`, the call is collective."""
        ids, mask = batch.input_ids.cpu(), batch.attention_mask.cpu().bool()
        rows = [row[kept] for row, kept in zip(ids, mask, strict=True)]
        keys = [hashlib.blake2b(row.numpy().tobytes(), digest_size=16).hexdigest() for row in rows]
        found = [self._cache.get(key) for key in keys]
        missing = [place for place, states in enumerate(found) if states is None]
        started = time.perf_counter()
        for place in missing:
            states = self.trunk.states(rows[place].to(self._device))
            self._cache.put(keys[place], states.cpu())
            found[place] = states
        for _ in range(self._most(len(missing)) - len(missing)):
            self.trunk.states(rows[0].to(self._device))
        self.computed += len(missing)
        self.seconds += time.perf_counter() - started if missing else 0.0
        whole = [states for states in found if states is not None]
        joined = whole[0].new_zeros((*ids.shape, whole[0].shape[-1]), device=self._device)
        for row, states in enumerate(whole):
            joined[row, ids.shape[1] - len(states) :] = states.to(self._device)
        return joined

    def _most(self, count: int) -> int:
        """Return the largest count among all ranks."""
        if not self._lockstep:
            return count
        most = torch.tensor([count], device=self._device)
        dist.all_reduce(most, dist.ReduceOp.MAX)
        return int(most.item())
