"""The users that a comparison evaluates on, and the slices of their targets."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.engine.sample_tables import ragged_column
from pipeline.stages.evaluation_users import draw_test_users, draw_users
from pipeline.studies.compare.outcomes import TEST, VALID
from scoring.validation_halves import in_choosing_half
from training.loops.proxy_loop import Pairs
from training.loops.proxy_ranking import RankedUsers
from training.loops.repeats import masking_notice, repeated_targets

_POPULAR = (1, 20, 100)


def read_users(config: Config, data: Storage) -> dict[str, RankedUsers]:
    """Return the test users that stage evaluate draws, and the validation users that no aimed method looks at.

    Raises
    ------
    UserError : there is no test user.
    """
    section = config.evaluate
    tables = {
        TEST: draw_test_users(data, section.users, section.seed),
        VALID: draw_users(data.child("samples", "valid"), section.users, section.seed, in_choosing_half),
    }
    return {split: _users(table, config) for split, table in tables.items()}


def masking_notices(users: Mapping[str, RankedUsers]) -> list[str]:
    """Return a warning for the test users and one for the validation users, where most of their targets are masked."""
    notices = [
        masking_notice(repeated_targets(asked.targets, asked.seen), len(asked.targets.values), name)
        for asked, name in ((users[TEST], "test"), (users[VALID], "validation"))
        if asked.seen is not None
    ]
    return [notice for notice in notices if notice is not None]


def tuning_pairs(config: Config, users: RankedUsers) -> Pairs:
    """Return `finetune.valid_users` pairs for early stopping: first every user's first target, then the second."""
    row = users.targets.row_of_value()
    place = np.arange(len(row)) - users.targets.offsets[row]
    chosen = np.lexsort((row, place))[: config.finetune.valid_users]
    return Pairs(users.history.take(row[chosen]), users.targets.values[chosen])


def _users(table: pa.Table, config: Config) -> RankedUsers:
    history = ragged_column(table, "history").tail(config.llm.max_items)
    seen = ragged_column(table, "seen") if config.evaluate.mask_seen else None
    return RankedUsers(history, ragged_column(table, "targets"), seen)


def target_slices(data: Storage, targets: npt.NDArray[np.int32]) -> Mapping[str, npt.NDArray[np.bool_]]:
    """Return which targets [M] belong to each slice; empty slices are left out.

    Warm targets have an interaction in train, cold ones have none. The other slices leave out the most frequent targets
    of the whole validation period: a gain that disappears with them came from recent popularity.
    """
    counts = data.read_table("items.parquet", ["count"]).column("count").to_numpy()
    valid, recent = data.child("samples", "valid"), np.zeros(len(counts) + 1, dtype=np.int64)
    for name in valid.list(suffix=".parquet"):
        recent += np.bincount(
            ragged_column(valid.read_table(name, ["targets"]), "targets").values, minlength=len(recent)
        )
    # The most frequent first; the lower index first among equals.
    popular = np.argsort(-recent, kind="stable")
    popular = popular[recent[popular] > 0]
    warm = counts[targets - 1] > 0
    slices = {"warm": warm, "cold": ~warm}
    for count in _POPULAR:
        slices[f"without the {count} most popular"] = ~np.isin(targets, popular[:count])
    return {name: chosen for name, chosen in slices.items() if chosen.any()}
