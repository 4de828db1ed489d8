"""The trunk's states of a run's samples, computed once for each sample and kept on the node's disk.

A sample's states depend on its tokens alone, so the tokens name the file. Effort, every epoch, rank, restart and arm of
a comparison with the same tokens read the same bytes. If the disk has no room, states are computed again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import Tensor

from training.llm.token_batches import TokenBatch, pass_tokens
from training.llm.trunk import Trunk

log = logging.getLogger("dealrec.finetune")

_NAME = "states"
_SHARE_OF_FREE_DISK = 0.5
#: Sequences are padded to multiples of this.
_STEP = 16


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

    @property
    def has_room(self) -> bool:
        return self._left > 0

    def has(self, key: str) -> bool:
        """Tell whether there is a file under a key, which may turn out not to be readable."""
        return self._file(key).exists()

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

    A sequence is padded on the right to the next multiple of 16 tokens, and passes through the trunk with others of the
    same padded length. A pass has one shape for each length, so that rounding does not depend on the other sequences.

    Parameters
    ----------
    trunk : the trunk of the model on `device`.
    lockstep : whether a pass through the trunk is collective, as under ZeRO-3, so that all ranks must make the same
        number of passes.

    Attributes
    ----------
    computed, tokens : the sequences that passed through the trunk so far, and their tokens.
    seconds : the time that `fill` has taken.
    """

    def __init__(self, trunk: Trunk, cache: StateCache, device: torch.device, lockstep: bool = False) -> None:
        self.trunk = trunk
        self._cache = cache
        self._device = device
        self._lockstep = lockstep
        self._pass_tokens = pass_tokens(device)
        self.computed = 0
        self.tokens = 0
        self.seconds = 0.0

    def of(self, batch: TokenBatch) -> Tensor:
        """Return the states of a batch, [B, T, d], zero on padding. With `lockstep`, the call is collective."""
        ids, mask = batch.input_ids.cpu(), batch.attention_mask.cpu().bool()
        rows = [row[kept] for row, kept in zip(ids, mask, strict=True)]
        found = {place: states for place, row in enumerate(rows) if (states := self._cache.get(_key(row))) is not None}
        missing = [place for place in range(len(rows)) if place not in found]
        for place, states in self._compute([rows[place] for place in missing]):
            found[missing[place]] = states
        joined = found[0].new_zeros((*ids.shape, found[0].shape[-1]), device=self._device)
        for place, states in found.items():
            joined[place, ids.shape[1] - len(states) :] = states.to(self._device)
        return joined

    def fill(self, sequences: Sequence[Tensor]) -> None:
        """Compute the states that the cache lacks of sequences that are needed soon, if it has room.

        Passes are fuller than those of `of` for one batch after another. With `lockstep`, the call is collective.
        """
        started = time.perf_counter()
        needed = {_key(row): row for row in sequences} if self._cache.has_room else {}
        for _ in self._compute([row for key, row in needed.items() if not self._cache.has(key)]):
            pass
        self.seconds += time.perf_counter() - started

    def _compute(self, rows: Sequence[Tensor]) -> Iterator[tuple[int, Tensor]]:
        """Run sequences through the trunk, keep their states, and yield the place and states [T, d] of each."""
        passes = self._passes([len(row) for row in rows])
        # A rank with fewer passes than another makes the cheapest one instead.
        for places in passes + [()] * (self._most(len(passes)) - len(passes)):
            some = [rows[place] for place in places]
            width = _padded(max(map(len, some), default=1))
            ids = torch.zeros((self._rows_of(width), width), dtype=torch.long)
            lengths = torch.ones(len(ids), dtype=torch.long)
            for index, row in enumerate(some):
                ids[index, : len(row)], lengths[index] = row, len(row)
            states = self.trunk.states(ids.to(self._device), lengths.to(self._device))
            self.computed += len(some)
            self.tokens += sum(map(len, some))
            # A pass that is not full ends with rows of padding alone.
            for place, row, each in zip(places, some, states, strict=False):
                self._cache.put(_key(row), each[: len(row)].cpu())
                yield place, each[: len(row)]

    def _passes(self, lengths: Sequence[int]) -> list[tuple[int, ...]]:
        """Cut sequences into passes of one padded length each."""
        groups: dict[int, list[int]] = {}
        for place, length in enumerate(lengths):
            groups.setdefault(_padded(length), []).append(place)
        return [
            tuple(places[start : start + self._rows_of(width)])
            for width, places in sorted(groups.items())
            for start in range(0, len(places), self._rows_of(width))
        ]

    def _rows_of(self, width: int) -> int:
        return max(1, self._pass_tokens // width)

    def _most(self, count: int) -> int:
        """Return the largest count among all ranks."""
        if not self._lockstep:
            return count
        most = torch.tensor([count], device=self._device)
        dist.all_reduce(most, dist.ReduceOp.MAX)
        return int(most.item())


def _padded(length: int) -> int:
    return -(-length // _STEP) * _STEP


def _key(row: Tensor) -> str:
    return hashlib.blake2b(row.numpy().tobytes(), digest_size=16).hexdigest()
