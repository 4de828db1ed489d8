"""Whom a comparison asks, and the targets that its slices are made of."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.compare.outcomes import TEST, VALID
from pipeline.config import Config
from pipeline.stages.validation_half import aimed_at
from pipeline.tables import ragged_column
from training.examples import chosen_rows
from training.proxy_loop import Pairs
from training.proxy_ranking import RankedUsers

_POPULAR = (1, 20, 100)
_COLUMNS = ["sample_id", "history", "targets", "seen"]


def read_users(config: Config, data: Storage) -> dict[str, RankedUsers]:
    """The test users that stage evaluate draws, and the validation users that no aimed method looks at.

    Raises `UserError` without a test user.
    """
    tables = {TEST: _read(data, "test"), VALID: _read(data, "valid")}
    if not tables[TEST].num_rows:
        raise UserError("There is no test user to evaluate.", "Take more of the log, or another data.split.")
    unseen = ~aimed_at(tables[VALID].column("sample_id").to_numpy())
    tables[VALID] = tables[VALID].filter(pa.array(unseen))
    return {split: _users(_drawn(config, table), config) for split, table in tables.items()}


def tuning_pairs(config: Config, users: RankedUsers) -> Pairs:
    """What tuning stops by: `finetune.valid_users` targets, the first of every user, then the second, and so on."""
    row = users.targets.row_of_value()
    place = np.arange(len(row)) - users.targets.offsets[row]
    chosen = np.lexsort((row, place))[: config.finetune.valid_users]
    return Pairs(users.history.take(row[chosen]), users.targets.values[chosen])


def _read(data: Storage, part: str) -> pa.Table:
    folder = data.child("samples", part)
    return pa.concat_tables([folder.read_table(name, _COLUMNS) for name in folder.list(suffix=".parquet")])


def _drawn(config: Config, table: pa.Table) -> pa.Table:
    """As stage evaluate draws them: by hash, in the order of the draw."""
    wanted = config.evaluate.users
    count = table.num_rows if wanted == "all" else min(int(wanted), table.num_rows)
    return table.take(pa.array(chosen_rows(table.column("sample_id").to_numpy(), count, config.evaluate.seed)))


def _users(table: pa.Table, config: Config) -> RankedUsers:
    history = ragged_column(table, "history").tail(config.llm.max_items)
    seen = ragged_column(table, "seen") if config.evaluate.mask_seen else None
    return RankedUsers(history, ragged_column(table, "targets"), seen)


def target_slices(data: Storage, targets: npt.NDArray[np.int32]) -> Mapping[str, npt.NDArray[np.bool_]]:
    """Which targets [M] belong to each slice; those without any are left out.

    Warm targets have an interaction in train, cold ones none. The others leave out the targets that were the most
    frequent ones of the whole validation period: a gain that goes with them was recent popularity.
    """
    counts = data.read_table("items.parquet", ["count"]).column("count").to_numpy()
    recent = np.bincount(ragged_column(_read(data, "valid"), "targets").values, minlength=len(counts) + 1)
    # The most frequent first; of equally frequent ones the lower item.
    popular = np.argsort(-recent, kind="stable")
    popular = popular[recent[popular] > 0]
    warm = counts[targets - 1] > 0
    slices = {"warm": warm, "cold": ~warm}
    for count in _POPULAR:
        slices[f"without the {count} most popular"] = ~np.isin(targets, popular[:count])
    return {name: chosen for name, chosen in slices.items() if chosen.any()}
