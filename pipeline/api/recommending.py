"""Recommend items to users by a finished run."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import pyarrow as pa
import pyarrow.json as pj

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.api.calls import api_call
from pipeline.api.config_sources import Source, opened_task
from pipeline.api.given_tables import ArrowStream, is_table, to_arrow
from pipeline.engine.config import Config
from pipeline.recommend.known_models import FORMATS, MODELS

if TYPE_CHECKING:
    import pandas as pd

#: Ids in memory, a table with a column of them, or the path of a file that holds them.
GivenIds: TypeAlias = str | os.PathLike[str] | Iterable[object] | pa.Table | ArrowStream
#: The path of a file, a table, or the items of each user, oldest first.
GivenHistories: TypeAlias = str | os.PathLike[str] | pa.Table | ArrowStream | Mapping[object, Iterable[object]]


@dataclass(frozen=True)
class Recommendations:
    """Lists of items for users, in a file.

    Attributes
    ----------
    folder : the folder or URI that the file lies in.
    file : its name: `recommendations.parquet` or `recommendations.jsonl`.
    model, k : what recommended, and the length of a list at most.
    users, rows : the number of users, and of rows over all their lists.
    digest : identifies the request and the run.
    """

    folder: str
    file: str
    model: str
    k: int
    users: int
    rows: int
    digest: str

    def table(self) -> pa.Table:
        """Read the lists: user_id, rank (from 1), item_id, title and score, a row an item, list after list.

        Scores are higher for better items of one user; they do not compare users.

        Raises `UserError` when another recommendation has replaced these lists.
        """
        from pipeline.recommend.recommend_run import read_record
        from pipeline.recommend.recommend_worker import RECOMMENDATIONS

        folder = Storage.at(self.folder)
        record = read_record(folder)
        if record is None or record.digest != self.digest or not record.complete:
            raise UserError(f"{self.folder} no longer holds these recommendations.", "Recommend again.")
        if self.file.endswith(".parquet"):
            return folder.read_table(self.file)
        options = pj.ParseOptions(explicit_schema=RECOMMENDATIONS)
        return pj.read_json(io.BytesIO(folder.read_bytes(self.file)), parse_options=options)

    def to_pandas(self) -> pd.DataFrame:
        """Read the lists as a data frame of pandas."""
        return self.table().to_pandas()


def recommend(
    source: Source,
    *,
    run_dir: str | os.PathLike[str] | None = None,
    users: GivenIds | None = None,
    histories: GivenHistories | None = None,
    candidates: GivenIds | None = None,
    k: int = 20,
    model: str = "llm",
    keep_seen: bool = False,
    format: Literal["parquet", "jsonl"] = "parquet",
    out: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
    progress: bool | None = None,
    **sections: object,
) -> Recommendations:
    """Recommend items to users, by what they have chosen so far.

    Users are ranked in chunks on Ray. The same call goes on where an earlier one was stopped, and returns at once what
    is complete.

    Parameters
    ----------
    source, run_dir, overrides, progress, sections : as of `dealrec.run`; the stages that the model reads must be
        complete.
    users : ids of the log's users; a table or the path of a file that holds them; or "all". A user's history is all
        that the log holds, validation and test included. None takes the users of `histories`.
    histories : what users have chosen, new ones among them: a mapping from a user to items, oldest first; a table; or
        the path of a file in any format of the log. Of a user of the log it replaces the log's history.
    candidates : ids of the items that may be recommended, as `users`; None is the whole catalogue.
    k : the length of a list. It is shorter where fewer candidates are left.
    model : "llm" (the tuned one), "untuned", "surrogate", "popularity" or "similarity".
    keep_seen : whether items of the user's history may be recommended.
    format : of the file.
    out : a folder or URI; None is a folder of its own below `recommendations` in the run directory. An earlier
        recommendation there is replaced.

    Raises `UserError` for unknown users and items, an empty history, users to whom no candidate is left, a `k` that the
    catalogue does not hold, a model that the run does not have, and a folder that holds something else.

    Examples
    --------
    >>> made = dealrec.recommend(run, users=["u1", "u2"], k=3, model="popularity")
    >>> made.table()["rank"].to_pylist()
    [1, 2, 3, 1, 2, 3]
    """
    from pipeline.recommend.recommend_request import RecommendRequest
    from pipeline.recommend.recommend_run import recommend_items

    with api_call(progress):
        _require_known(model, "model", MODELS)
        _require_known(format, "format", FORMATS)
        with opened_task(source, run_dir, overrides, sections, writes=False) as task:
            request = RecommendRequest(
                users=_ids(users, "user", "--users", task.config),
                histories=_histories(histories),
                candidates=_ids(candidates, "item", "--candidates", task.config),
                k=k,
                model=model,
                keep_seen=keep_seen,
                format=format,
            )
            where = None if out is None else os.fspath(out)
            folder, made = recommend_items(task.config, task.run, where, request)
        return Recommendations(folder.uri, made.file, made.model, made.k, made.users, made.rows, made.digest)


def _require_known(name: str, argument: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise UserError(f"There is no {argument} {name!r}.", f"Name one of {', '.join(known)}.")


def _ids(given: GivenIds | None, role: Literal["user", "item"], option: str, config: Config) -> str | list[str] | None:
    """Return ids as the log spells them, or the path of the file that holds them."""
    from pipeline.recommend.id_lists import id_column, id_values, table_header

    if given is None or isinstance(given, str):
        return given
    if isinstance(given, os.PathLike):
        return os.fspath(given)
    if is_table(given) and getattr(given, "columns", None) is not None:
        table = to_arrow(given, option)
        column = id_column(table_header(table, option), role, option, config.data.columns)
        return id_values(table[column].to_pylist(), role, option)
    if not isinstance(given, Iterable):
        raise UserError(f"{option}: {type(given).__name__} is no list of ids.", "Give a list, a table or a path.")
    return id_values(given, role, option)


def _histories(given: GivenHistories | None) -> str | pa.Table | None:
    from pipeline.recommend.given_histories import OPTION, mapped_histories

    if given is None or isinstance(given, str):
        return given
    if isinstance(given, os.PathLike):
        return os.fspath(given)
    return mapped_histories(given) if isinstance(given, Mapping) else to_arrow(given, OPTION)
