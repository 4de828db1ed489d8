"""Which examples go into which optimizer step, and how a step's examples are dealt to ranks and
micro-batches.

The global batches of an epoch are a function of the seed and the epoch alone, so any number of workers takes
the same optimizer steps; only the split of a batch's sum differs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from training.loops.schedule import seed_of

Rows = npt.NDArray[np.int64]
Lengths = npt.NDArray[np.int64]


def steps_per_epoch(examples: int, global_batch: int) -> int:
    """Return the number of optimizer steps of an epoch; the last one may be smaller."""
    return -(-examples // global_batch)


def global_batches(examples: int, global_batch: int, seed: int, epoch: int) -> list[Rows]:
    """Return the examples of each optimizer step of an epoch.

    Every example is in exactly one step, and the order is drawn from (seed, epoch).
    """
    order = np.random.default_rng(seed_of("batches", seed, epoch)).permutation(examples)
    return [order[start : start + global_batch] for start in range(0, examples, global_batch)]


def deal(rows: Rows, lengths: Lengths, rank: int, world: int, micro_tokens: int) -> list[Rows]:
    """Return the micro-batches of one rank for a global batch; all ranks have the same number of them.

    Rows are dealt in the order of their length, back and forth, so that ranks get about the same number of
    tokens. Each rank packs its share into micro-batches of at most `micro_tokens` cells, padding included. A
    rank with fewer micro-batches than another splits its own, and adds empty ones if its rows do not suffice.
    Backward passes are collective, so all ranks must make the same number of them.

    Parameters
    ----------
    rows : the global batch.
    lengths : [examples], tokens of each example.
    """
    order = rows[np.argsort(-lengths[rows], kind="stable")]
    packs = [_pack(share, lengths, micro_tokens) for share in _shares(order, world)]
    return _spread(packs[rank], max(len(pack) for pack in packs))


def _shares(order: Rows, world: int) -> list[Rows]:
    """Deal the rows to ranks in the order 0, 1, ..., w - 1, w - 1, ..., 1, 0, 0, 1, ..."""
    place = np.arange(len(order)) % (2 * world)
    owner = np.where(place < world, place, 2 * world - 1 - place)
    return [order[owner == rank] for rank in range(world)]


def _pack(rows: Rows, lengths: Lengths, micro_tokens: int) -> list[Rows]:
    """Group neighbours of falling length up to the budget; a row that exceeds it is alone."""
    packs: list[Rows] = []
    start = 0
    while start < len(rows):
        count = max(1, micro_tokens // int(lengths[rows[start]]))
        packs.append(rows[start : start + count])
        start += count
    return packs


def _spread(packs: list[Rows], count: int) -> list[Rows]:
    """Spread the rows over `count` micro-batches: halve the fullest ones, then append empty ones."""
    spread = list(packs)
    while len(spread) < count and any(len(pack) > 1 for pack in spread):
        fullest = max(range(len(spread)), key=lambda place: len(spread[place]))
        pack = spread[fullest]
        half = (len(pack) + 1) // 2
        spread[fullest : fullest + 1] = [pack[:half], pack[half:]]
    return spread + [np.empty(0, dtype=np.int64)] * (count - len(spread))
