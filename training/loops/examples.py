"""Examples for fine-tuning: from samples to token ids, and the table that carries them to the workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.storage import Storage
from scoring.ids import draw_order
from training.llm.prompts import EncodedPrompt, PromptEncoder
from training.loops.array_columns import read_parts, to_ragged

Eligible = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.bool_]]


def validation_examples(data: Storage, users: int, seed: int, eligible: Eligible | None = None) -> pa.Table:
    """Read the first validation target of a set of users that is chosen by hash.

    Parameters
    ----------
    data : the run's data folder, with `samples/valid/part-*.parquet`.
    users : how many; all of them if there are no more.
    eligible : of sample ids, which may be drawn; None for all.

    Returns
    -------
    sample_id int64, user_id string, history list<int32>, target int32; in the order of the draw.
    """
    folder = data.child("samples", "valid")
    table = read_parts(folder, ["sample_id", "user_id", "history", "targets"], "validation samples")
    if eligible is not None:
        table = table.filter(pa.array(eligible(table["sample_id"].to_numpy())))
    chosen = chosen_rows(table["sample_id"].to_numpy(), users, seed)
    picked = table.take(pa.array(chosen))
    targets = to_ragged(picked["targets"])
    first = pa.array(targets.values[targets.offsets[:-1]], pa.int32())
    return picked.drop_columns(["targets"]).append_column("target", first)


def chosen_rows(sample_id: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the rows with the smallest keys of a seeded draw, smallest first, int64 [min(count, N)]."""
    keys = draw_order(np.asarray(sample_id, dtype=np.int64), seed)
    return np.argsort(keys, kind="stable")[:count]


def encode_examples(table: pa.Table, encoder: PromptEncoder) -> pa.Table:
    """Encode every row of a table with columns `history` and `target` as token ids.

    Returns
    -------
    input_ids list<int32>, response_start int32; row for row.
    """
    histories = table["history"].to_pylist()
    targets = table["target"].to_pylist()
    encoded = [encoder.encode(h, t) for h, t in zip(histories, targets, strict=True)]
    return pa.table(
        {
            "input_ids": pa.array([prompt.input_ids for prompt in encoded], pa.list_(pa.int32())),
            "response_start": pa.array([prompt.response_start for prompt in encoded], pa.int32()),
        }
    )


class Encoded(Sequence[EncodedPrompt]):
    """Encoded prompts in flat arrays, since lists of Python numbers take eight times the memory.

    Parameters
    ----------
    table : as `encode_examples` returns it.
    tokens : `response`, or `all` to learn everything after the first token.
    """

    def __init__(self, table: pa.Table, tokens: str) -> None:
        self._ids = to_ragged(table["input_ids"])
        self._starts = np.asarray(table["response_start"].to_numpy(), dtype=np.int64)
        if tokens == "all":
            self._starts = np.ones_like(self._starts)

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, place: int) -> EncodedPrompt: ...

    @overload
    def __getitem__(self, place: slice) -> list[EncodedPrompt]: ...

    def __getitem__(self, place: int | slice) -> EncodedPrompt | list[EncodedPrompt]:
        if isinstance(place, slice):
            return [self[row] for row in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(place)
        return EncodedPrompt(self._ids.row(place).tolist(), int(self._starts[place]))

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """int64 [N], tokens of each."""
        return self._ids.lengths
