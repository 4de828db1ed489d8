"""Histories that a user gives: interactions in the format of the log, from a file or in memory."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import UserError
from pipeline.engine.config import Config
from pipeline.engine.wording import counted
from pipeline.ingest.files.headers import Header, check_same_kinds, read_headers
from pipeline.ingest.files.sources import find_files
from pipeline.ingest.ingest_spec import IngestSpec
from pipeline.ingest.reading import KEPT, LOW_RATING, NO_ID, NO_RATING, LogReader, log_reader, normalise, plan_tasks
from pipeline.ingest.sequences import order_log
from pipeline.recommend.id_lists import column_of, id_column, shown_ids
from pipeline.recommend.id_lists import table_header as header_of_table
from pipeline.recommend.user_histories import UserHistories
from scoring.ids import item_keys
from scoring.ragged import Ragged

OPTION = "--histories"
_ROLES = ("user", "item", "timestamp", "position")
#: The reasons for leaving out a row of the histories, each with the config key that asks for it.
_LEFT_OUT = {
    LOW_RATING: "rated below data.min_rating",
    NO_RATING: "without a rating, where data.min_rating asks for one",
    NO_ID: "without an id, where data.missing_id is drop",
}

log = logging.getLogger("dealrec.run")


@dataclass(frozen=True)
class _Rows:
    """The given interactions: user and item, and timestamp and position where known."""

    table: pa.Table
    place: str


def read_histories(location: str, config: Config, item_ids: pa.Array) -> UserHistories:
    """Read the histories of a file, folder or table, in any format of the log.

    Columns are found like those of the log, by `data.columns` or by their usual names. A user's interactions are
    ordered by time and position like those of the log, or by their rows if the file has neither. A column of ratings
    counts if `data.min_rating` is set.

    Parameters
    ----------
    item_ids : the ids of the catalogue, in the order of their indices.

    Raises `UserError` for a file that cannot be read, without users, and with items that are not in the catalogue.
    """
    headers = read_headers(find_files(location, OPTION, skip_suffix=".item"))
    roles, spec = _roles(headers[0], config)
    check_same_kinds(headers, list(roles.values()))
    reader = log_reader(headers, roles, spec)
    blocks = (block for pieces in plan_tasks(headers) for block in reader(pieces))
    return _ordered(_Rows(_kept(blocks), location), item_ids)


def table_histories(table: pa.Table, config: Config, item_ids: pa.Array) -> UserHistories:
    """Read histories from a table in memory, like `read_histories`."""
    roles, spec = _roles(header_of_table(table, OPTION), config)
    reader = LogReader(roles, spec.min_rating, spec.missing_id, tuple(spec.null_values or ()))
    block = normalise(table.select(list(dict.fromkeys(roles.values()))), reader, OPTION, 1)
    return _ordered(_Rows(_kept([block]), "the table"), item_ids)


def mapped_histories(histories: Mapping[object, Iterable[object]]) -> pa.Table:
    """Return a mapping from a user to the items chosen, oldest first, as a table of user and item.

    Raises `UserError` if there is no user, and for a user without items, a text in place of a list, and ids of several
    types.
    """
    text = next((user for user, items in histories.items() if isinstance(items, (str, bytes))), None)
    if text is not None:
        raise UserError(f"{OPTION}: the items of {text} are a text.", "Give a list of item ids.")
    rows = {user: list(items) for user, items in histories.items()}
    empty = [str(user) for user, items in rows.items() if not items]
    if empty or not rows:
        raise UserError(*_no_history(empty))
    users = [user for user, items in rows.items() for _ in items]
    items = [item for row in rows.values() for item in row]
    try:
        return pa.table({"user": pa.array(users), "item": pa.array(items)})
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise UserError(f"{OPTION}: the ids are of several types.", "Give all of them as text.") from error


def _no_history(users: Sequence[str]) -> tuple[str, str]:
    if not users:
        return f"{OPTION}: there is no history.", "Give at least one user with one item."
    verb = "has" if len(users) == 1 else "have"
    return (
        f"{OPTION}: {counted(len(users), 'user')} {verb} an empty history: {shown_ids(users)}.",
        "Leave them out; a recommendation starts from at least one item.",
    )


def _roles(header: Header, config: Config) -> tuple[dict[str, str], IngestSpec]:
    """Return the column of each role in the histories, and the run's ingest rules for them."""
    columns = config.data.columns
    roles = {role: id_column(header, role, OPTION, columns) for role in ("user", "item")}
    asked = ("timestamp", "position", *(["rating"] if config.data.min_rating is not None else []))
    found = {role: column_of(header, role, columns) for role in asked}
    roles |= {role: column for role, column in found.items() if column is not None}
    spec = IngestSpec.of(config.data, config.samples)
    return roles, spec if "rating" in roles else spec.model_copy(update={"min_rating": None})


def _kept(blocks: Iterable[pa.Table]) -> pa.Table:
    """Join blocks of normal rows without those that the config leaves out, and log how many were left out."""
    reasons = np.zeros(max(_LEFT_OUT) + 2, np.int64)
    kept = [pa.table({"user": pa.array([], pa.string()), "item": pa.array([], pa.string())})]
    for block in blocks:
        reasons += np.bincount(block["reason"].to_numpy(), minlength=len(reasons))
        rows = block.filter(pc.equal(block["reason"], KEPT))
        kept.append(rows.select([role for role in _ROLES if role in rows.column_names]))
    for line in _left_out(reasons):
        log.info("%s", line)
    return pa.concat_tables([table for table in kept if table.num_rows] or kept[:1])


def _left_out(reasons: np.ndarray) -> Iterator[str]:
    for reason, words in _LEFT_OUT.items():
        if reasons[reason]:
            yield f"Left out {counted(int(reasons[reason]), 'row')} of the histories {words}"


def _ordered(rows: _Rows, item_ids: pa.Array) -> UserHistories:
    table = rows.table
    if not table.num_rows:
        raise UserError(f"{OPTION}: {rows.place} has no interaction.", "Give at least one user with one item.")
    index = pc.index_in(table["item"].combine_chunks(), value_set=item_ids)
    unknown = table.filter(pc.is_null(index))
    if unknown.num_rows:
        names = pc.unique(unknown["item"].combine_chunks()).to_pylist()
        have = "item is" if len(names) == 1 else "items are"
        raise UserError(
            f"{OPTION}: {len(names):,} {have} not in the run's catalogue, in {counted(unknown.num_rows, 'row')} of "
            f"{rows.place}: {shown_ids(names)}.",
            "Correct the ids, remove these rows, or start a run whose data.items holds them.",
        )
    table = table.set_column(table.column_names.index("item"), "item", pc.add(index, 1).cast(pa.int32()))
    if not {"timestamp", "position"} & set(table.column_names):
        table = table.append_column("position", pa.array(np.arange(table.num_rows, dtype=np.float64)))
    ordered = order_log(table, item_keys(item_ids.to_pylist()))
    return UserHistories(ordered.users.to_pylist(), Ragged(ordered.items, ordered.offsets))
