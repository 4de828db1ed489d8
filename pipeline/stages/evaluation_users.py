"""The users that an evaluation runs on, drawn by hash from the test period or the validation period."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa

from cluster.errors import UserError
from cluster.storage import Storage
from training.loops.examples import Eligible, chosen_rows

_COLUMNS = ["sample_id", "user_id", "history", "targets", "seen"]


def draw_test_users(data: Storage, users: int | Literal["all"], seed: int) -> pa.Table:
    """Draw the test users as `draw_users` does. Raises `UserError` without any."""
    drawn = draw_users(data.child("samples", "test"), users, seed)
    if not drawn.num_rows:
        raise UserError("There is no test user to evaluate.", "Take more of the log, or another data.split.")
    return drawn


def draw_users(folder: Storage, users: int | Literal["all"], seed: int, eligible: Eligible | None = None) -> pa.Table:
    """Draw `users` of the users in a folder of samples, or all if there are fewer, in the order of the draw.

    Only the ids of the other users are kept in memory. `eligible` tells which sample ids may be drawn; None allows all.

    Returns
    -------
    A table of sample_id, user_id, history, targets and seen.
    """
    names = folder.list(suffix=".parquet")
    ids = [folder.read_table(name, ["sample_id"]).column("sample_id").to_numpy() for name in names]
    whole = np.concatenate(ids)
    able = np.arange(len(whole)) if eligible is None else np.flatnonzero(eligible(whole))
    rows = able[chosen_rows(whole[able], len(able) if users == "all" else users, seed)]
    order = np.argsort(rows)
    ends = np.cumsum([len(part) for part in ids])
    inside = np.split(rows[order], np.searchsorted(rows[order], ends[:-1]))
    # A shard without drawn users is left out, except for the first one, which gives the columns their types.
    parts = [
        folder.read_table(name, _COLUMNS).take(pa.array(mine - (end - len(part))))
        for name, part, mine, end in zip(names, ids, inside, ends, strict=True)
        if len(mine) or name == names[0]
    ]
    place = np.empty(len(rows), dtype=np.int64)
    place[order] = np.arange(len(rows))
    return pa.concat_tables(parts).take(pa.array(place))
