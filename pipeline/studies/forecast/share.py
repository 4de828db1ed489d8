"""Draw a share of a log: all interactions of some users, chosen by hash, and the sizes of the whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.ingest.files.headers import read_headers
from pipeline.ingest.files.sources import find_files
from pipeline.ingest.ingest_spec import PARTS
from pipeline.ingest.log_survey import LogSurvey, merge_surveys, survey_block, user_hashes
from pipeline.ingest.reading import KEPT, log_reader, plan_tasks, read_catalogue
from pipeline.ingest.split_files import settle_split
from pipeline.ingest.values.columns import resolve_catalogue, resolve_log
from pipeline.stages.ingest_stage import ingest_spec


@dataclass(frozen=True)
class LogSize:
    """Sizes of the whole log: kept interactions, users (estimated above some thousand), and items."""

    interactions: int
    users: int
    items: int


class UserDraw:
    """Collects the rows of the users with the smallest hashes while blocks pass by.

    Whenever twice as many users as wanted are held, all but those with the smallest hashes are dropped, and no later
    user with a larger hash is taken. One pass is therefore enough, in memory of the size of the share.
    """

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._bound = (1 << 63) - 1
        self._hashes: dict[str, int] = {}
        self._blocks: list[pa.Table] = []

    def add(self, block: pa.Table) -> None:
        """Take the rows of a normalised block that belong to the share, as far as is known by now."""
        users = pc.unique(block["user"])
        names = [name for name in users.to_pylist() if name is not None]
        hashes = user_hashes(pa.chunked_array([pa.array(names, pa.string())])).tolist()
        self._hashes |= {name: key for name, key in zip(names, hashes, strict=True) if key <= self._bound}
        if len(self._hashes) > 2 * self._wanted:
            self._keep_least()
            self._blocks = [self._own(kept) for kept in self._blocks]
        self._blocks.append(self._own(block))

    def table(self) -> pa.Table:
        """Return the rows of `wanted` users, or of all users if there are fewer."""
        self._keep_least()
        return pa.concat_tables([self._own(block) for block in self._blocks])

    def _keep_least(self) -> None:
        least = sorted(self._hashes.items(), key=lambda entry: entry[1])[: self._wanted]
        self._hashes = dict(least)
        self._bound = least[-1][1] if len(least) == self._wanted else self._bound

    def _own(self, block: pa.Table) -> pa.Table:
        return block.filter(pc.is_in(block["user"], value_set=pa.array(list(self._hashes), pa.string())))


def write_shares(config: Config, users: int, many: Storage, few_users: int, few: Storage) -> LogSize:
    """Write two shares in one pass, each as `log.parquet` and `items.parquet` with names that ingest recognises.

    Parameters
    ----------
    users, many : the number of users of the first share and its folder. It keeps every item, because models that score
        all items do.
    few_users, few : those of the second share, whose users are drawn from the first. It has only their items.

    Raises `UserError` for a log that cannot be read, as ingest does.
    """
    spec = ingest_spec(config)
    files = find_files(spec.interactions, "data.interactions", skip_suffix=".item")
    spec, headers = settle_split(spec, read_headers(files))
    reader = log_reader(headers, resolve_log(headers, spec), spec)
    draw, redraw = UserDraw(users), UserDraw(few_users)

    def blocks() -> Iterator[pa.Table]:
        for pieces in plan_tasks(headers):
            for block in reader(pieces):
                draw.add(block.filter(pc.equal(block["reason"], KEPT)))
                yield survey_block(block)

    survey = merge_surveys(blocks())
    if survey.rows[0] == 0:
        raise UserError(f"{spec.interactions}: no interaction of the log is left.", "Give a log with interactions.")
    log = draw.table()
    catalogue = _catalogue(config, survey)
    redraw.add(log)
    part = redraw.table()
    _write(many, log, catalogue)
    _write(few, part, catalogue.filter(pc.is_in(catalogue["item"], value_set=pc.unique(part["item"]))))
    return LogSize(survey.rows[0], survey.users, len(pc.unique(catalogue["item"])))


def share_config(config: Config, folder: Storage) -> Config:
    """Return the configuration for the share; filters and column names were applied when it was written."""
    filesystem, log = folder.fs_path("log.parquet")
    given = "split" in pq.read_schema(log, filesystem=filesystem).names
    data = {
        "interactions": f"{folder.uri}/log.parquet",
        "items": f"{folder.uri}/items.parquet",
        # The share is one file, so file names no longer give the split.
        "split": "column" if given else config.data.split,
        "missing_title": "drop",
        "null_values": [],
    }
    return config.model_copy(update={"data": type(config.data).model_validate(data)})


def _catalogue(config: Config, survey: LogSurvey) -> pa.Table:
    """Return item and title of the whole log or of its catalogue."""
    if config.data.items is None:
        return survey.items.select(["item", "title"])
    spec = ingest_spec(config)
    headers = read_headers(find_files(config.data.items, "data.items", skip_suffix=".inter"))
    return read_catalogue(headers, resolve_catalogue(headers, spec), spec)


def _write(out: Storage, log: pa.Table, catalogue: pa.Table) -> None:
    out.write_table("log.parquet", _named(log))
    out.write_table("items.parquet", catalogue.rename_columns(["item_id", "title"]))


def _named(log: pa.Table) -> pa.Table:
    """Return normal columns under the names that ingest looks for, with splits as words again."""
    columns = {"user_id": log["user"], "item_id": log["item"]}
    columns |= {name: log[name] for name in ("timestamp", "position") if name in log.column_names}
    if "split" in log.column_names:
        columns["split"] = pa.array(np.array(PARTS, dtype=object)[log["split"].to_numpy()], pa.string())
    return pa.table(columns)
