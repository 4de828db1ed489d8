"""A request for recommendations, checked against the run before anything is spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.digest import digest, json_digest
from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.engine.wording import counted
from pipeline.recommend.given_histories import read_histories, table_histories
from pipeline.recommend.id_lists import read_ids, shown_ids
from pipeline.recommend.user_histories import UserHistories, joined, log_histories

#: The value of `--users` that stands for every user of the log.
_EVERYONE: Literal["all"] = "all"


@dataclass(frozen=True)
class RecommendRequest:
    """A user's request for recommendations.

    Attributes
    ----------
    users : ids; the path of a file with ids; "all" for every user of the log; None for those of `histories`.
    histories : the path or the table of what users have chosen; None takes all histories from the log.
    candidates : ids of the items that may be recommended, or the path of a file that holds them; None is the catalogue.
    k : the length of a list.
    model : one of `known_models.MODELS`.
    keep_seen : whether items that the user has chosen may be recommended.
    format : one of `known_models.FORMATS`.
    """

    users: str | Sequence[str] | None
    histories: str | pa.Table | None
    candidates: str | Sequence[str] | None
    k: int
    model: str
    keep_seen: bool
    format: str

    def check(self) -> None:
        """Raise `UserError` for a request that no run can answer."""
        if self.users is None and self.histories is None:
            raise UserError(
                "Neither --users nor --histories is given, so there is nobody to recommend to.",
                "Give --users FILE with ids of the log's users, --users all, or --histories FILE.",
            )
        if self.k < 1:
            raise UserError(f"--k must be at least 1, got {self.k}.", "Ask for at least one item.")


@dataclass(frozen=True)
class Asked:
    """The users of a request, and the items that they may be recommended.

    Attributes
    ----------
    histories : every user once, in the order of the answer.
    allowed : bool [n], by item from item 1; None allows all.
    """

    histories: UserHistories
    allowed: npt.NDArray[np.bool_] | None

    @property
    def content(self) -> str:
        """A digest of users, histories and candidates."""
        items = self.histories.items
        allowed = b"" if self.allowed is None else self.allowed.tobytes()
        parts = (items.values.tobytes(), items.offsets.tobytes(), allowed)
        return json_digest([list(self.histories.users), *(digest(part) for part in parts)])


def asked_of(request: RecommendRequest, config: Config, data: Storage, item_ids: pa.Array) -> Asked:
    """Look up the users and items of a request in a run.

    Parameters
    ----------
    data : the folder of the stage ingest.
    item_ids : the ids of the catalogue, in the order of their indices.

    Raises `UserError` for k above the catalogue, unknown users and items, and users to whom nothing can be recommended.
    """
    request.check()
    if request.k > len(item_ids):
        raise UserError(
            f"--k is {request.k:,}, and the run's catalogue has {counted(len(item_ids), 'item')}.",
            f"Ask for at most {len(item_ids):,}.",
        )
    allowed = _allowed(request, config, item_ids)
    histories = _histories(request, config, data, item_ids)
    if not request.keep_seen:
        _require_choice(histories, allowed, len(item_ids))
    return Asked(histories, allowed)


def _allowed(request: RecommendRequest, config: Config, item_ids: pa.Array) -> npt.NDArray[np.bool_] | None:
    asked = request.candidates
    if asked is None:
        return None
    ids = read_ids(asked, "item", "--candidates", config.data.columns) if isinstance(asked, str) else list(asked)
    index = pc.index_in(pa.array(ids, pa.string()), value_set=item_ids)
    unknown = [item for item, place in zip(ids, index.to_pylist(), strict=True) if place is None]
    if unknown:
        raise UserError(
            f"--candidates: {len(unknown):,} of {counted(len(ids), 'item')} {'is' if len(unknown) == 1 else 'are'} not "
            f"in the run's catalogue: {shown_ids(unknown)}.",
            "Correct the ids, or leave them out.",
        )
    allowed = np.zeros(len(item_ids), dtype=bool)
    allowed[index.to_numpy()] = True
    return allowed


def _histories(request: RecommendRequest, config: Config, data: Storage, item_ids: pa.Array) -> UserHistories:
    """Return the histories of the requested users; a given history replaces that of the log."""
    given = _given(request, config, item_ids)
    if request.users is None:
        assert given is not None
        return given
    own = [given] if given is not None else []
    if isinstance(request.users, str) and request.users == _EVERYONE:
        return joined([*own, log_histories(data)])
    users = request.users
    ids = read_ids(users, "user", "--users", config.data.columns) if isinstance(users, str) else list(users)
    found = joined([*own, log_histories(data, frozenset(ids))])
    row_of = {user: row for row, user in enumerate(found.users)}
    unknown = [user for user in ids if user not in row_of]
    if unknown:
        places = "the run has no history" if given is None else "neither the run nor --histories has a history"
        raise UserError(
            f"--users: {places} of {len(unknown):,} of {counted(len(ids), 'user')}: {shown_ids(unknown)}.",
            "Correct the ids, or give by --histories FILE what they have chosen.",
        )
    return found.take(np.array([row_of[user] for user in ids], dtype=np.int64))


def _given(request: RecommendRequest, config: Config, item_ids: pa.Array) -> UserHistories | None:
    if request.histories is None:
        return None
    if isinstance(request.histories, str):
        return read_histories(request.histories, config, item_ids)
    return table_histories(request.histories, config, item_ids)


def _require_choice(histories: UserHistories, allowed: npt.NDArray[np.bool_] | None, count: int) -> None:
    """Raise `UserError` for users who have chosen every candidate already."""
    candidates = count if allowed is None else int(allowed.sum())
    rows, items = histories.items.row_of_value(), histories.items.values
    if allowed is not None:
        inside = allowed[items - 1]
        rows, items = rows[inside], items[inside]
    distinct = np.unique(rows * np.int64(count + 1) + items) // (count + 1)
    full = np.flatnonzero(np.bincount(distinct, minlength=len(histories)) >= candidates)
    if len(full):
        have = "user has" if len(full) == 1 else "users have"
        names = shown_ids([histories.users[row] for row in full.tolist()])
        what = "item of the catalogue" if allowed is None else "candidate"
        raise UserError(
            f"No item is left to recommend: {len(full):,} {have} chosen every {what}: {names}.",
            "Leave these users out, give more --candidates, or give --keep-seen.",
        )
