"""A batch recommendation: its folder, its chunks of users on Ray, and the one file that results."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from cluster.digest import json_digest
from cluster.errors import UserError
from cluster.progress import LineProgress
from cluster.sharded_map import map_shards
from cluster.shards import shard_name
from cluster.storage import Storage
from pipeline.driver.run_directory import WRITE_TEST, open_run, session
from pipeline.engine.config import Config
from pipeline.engine.fingerprint import config_part
from pipeline.engine.graph import StageContext
from pipeline.engine.sample_tables import list_array
from pipeline.engine.wording import counted
from pipeline.ingest.statistics_record import read_statistics
from pipeline.preflight.before_run import check_before_run, check_cluster
from pipeline.recommend.finished_models import contents, model_folders
from pipeline.recommend.known_models import LLM_MODELS
from pipeline.recommend.ranker_sources import (
    LlmSource,
    PopularitySource,
    RankerSource,
    SimilaritySource,
    SurrogateRankerSource,
)
from pipeline.recommend.recommend_request import Asked, RecommendRequest, asked_of
from pipeline.recommend.recommend_worker import RECOMMENDATIONS, Listing, RecommendWorker, users_file
from pipeline.recommend.user_histories import UserHistories
from pipeline.stages.evaluate_stage import embed_titles, llm_task
from pipeline.stages.prompt_titles import llm_titles
from pipeline.stages.stage_list import LLM_KEYS
from pipeline.stages.surrogate_source import trained_surrogate
from pipeline.stages.title_priors import title_priors
from pipeline.stages.worker_pools import llm_pool, scoring_pool
from training.ranking.ranking_metrics import title_groups

log = logging.getLogger("dealrec.run")

#: The file in a recommendation's folder that records the request, and whether it is complete.
MARK = "_recommend.json"
_CHUNKS, _USERS = "_chunks", "_users"
#: Users of a chunk: as many as in an evaluation, or more for models that take no time.
_LLM_CHUNK, _CHUNK, _SCORES = 16, 512, 1 << 24


@dataclass(frozen=True)
class RecommendRecord:
    """The record of a recommendation.

    Attributes
    ----------
    digest : identifies the request and the run.
    model, k : those of the request.
    file : the name of the file with the lists.
    users, rows : the number of users, and of rows in the file.
    complete : whether the file is there.
    """

    digest: str
    model: str
    k: int
    file: str
    users: int
    rows: int
    complete: bool


def recommend_items(
    config: Config, run: Storage, out: str | None, request: RecommendRequest
) -> tuple[Storage, RecommendRecord]:
    """Write lists of items for users, and return their folder and its record.

    Everything is checked before a file is written. Users are cut into chunks that depend on the data alone. Finished
    chunks are kept, and the same request continues with the others. Files of an earlier recommendation in `out` are
    replaced.

    Parameters
    ----------
    out : a folder or URI; None is a folder in the run directory, named after the request.

    Raises `UserError` for any fault of the request, the run or the folder.
    """
    folders = model_folders(config, run, request.model)
    data = folders["ingest"]
    items = data.read_table("items.parquet", ["item_id", "title", "count"])
    asked = asked_of(request, config, data, items["item_id"].combine_chunks())
    key = _digest(config, request, folders, asked)
    folder = Storage.at(out) if out else run.child("recommendations", f"{request.model}-{key[:8]}")
    _require_own(folder)
    earlier = read_record(folder)
    if earlier is not None and earlier.digest == key and earlier.complete:
        log.info("Complete already: %s", folder.child(earlier.file).uri)
        return folder, earlier
    _say_missing(request, data, asked.histories)
    quiet = config.model_copy(update={"track": ()})
    # Embeddings of titles are kept in the run; other models write only into the folder of their lists.
    written = run if request.model in LLM_MODELS else folder
    check_before_run(quiet, _checked(request.model), written)
    if out:
        open_run(out, "--out")
    if earlier is not None and earlier.digest != key:
        _clear(folder, earlier)
    file = f"recommendations.{request.format}"
    begun = RecommendRecord(key, request.model, request.k, file, len(asked.histories), 0, complete=False)
    folder.write_json(MARK, asdict(begun))
    with session(config):
        parts = _ranked(quiet, run, folder, request, folders, items, asked)
        rows = _write(folder, file, parts)
    done = RecommendRecord(key, request.model, request.k, file, len(asked.histories), rows, complete=True)
    folder.write_json(MARK, asdict(done))
    folder.delete(_CHUNKS)
    folder.delete(_USERS)
    return folder, done


def read_record(folder: Storage) -> RecommendRecord | None:
    """Read the record of a folder; None if the folder is no recommendation."""
    return RecommendRecord(**folder.read_json(MARK)) if folder.exists(MARK) else None


def _digest(config: Config, request: RecommendRequest, folders: Mapping[str, Storage], asked: Asked) -> str:
    keys = (*LLM_KEYS, "llm.model", "evaluate") if request.model in LLM_MODELS else ()
    asks = [request.model, request.k, request.keep_seen, request.format]
    return json_digest([asks, asked.content, contents(folders), config_part(config, keys)])


def _require_own(folder: Storage) -> None:
    """Raise `UserError` if the folder holds files or folders of something else."""
    if folder.exists(MARK):
        return
    filesystem, path = folder.fs_path()
    found = filesystem.get_file_info(pafs.FileSelector(path, allow_not_found=True)) if folder.exists() else []
    foreign = sorted(info.base_name for info in found if info.base_name != WRITE_TEST)
    if foreign:
        raise UserError(
            f"--out {folder.uri} holds files of something else ({foreign[0]}).", "Name a folder of its own."
        )


def _clear(folder: Storage, earlier: RecommendRecord) -> None:
    for name in (MARK, earlier.file, _CHUNKS, _USERS):
        folder.delete(name)


def _say_missing(request: RecommendRequest, data: Storage, histories: UserHistories) -> None:
    if request.users != "all" or request.histories is not None:
        return
    missing = read_statistics(data)["users"] - len(histories)
    if missing > 0:
        log.warning(
            "%s left out: they came with the validation or the test period, and this run was ingested by an earlier "
            "version, which keeps no history of theirs. Give it by --histories.",
            counted(missing, "user is", "users are"),
        )


def _checked(model: str) -> tuple[str, ...]:
    """Return the stages whose checks before a run cover the model: an evaluation loads the LLM as well."""
    return ("evaluate",) if model in LLM_MODELS else ()


def _ranked(
    config: Config,
    run: Storage,
    folder: Storage,
    request: RecommendRequest,
    folders: Mapping[str, Storage],
    items: pa.Table,
    asked: Asked,
) -> Iterator[pa.Table]:
    """Rank items for all users, and return the lists by chunk, in the order of the users."""
    by_llm = request.model in ("llm", "untuned")
    check_cluster(config, _checked(request.model), run if request.model in LLM_MODELS else folder)
    chunks = _write_users(folder, asked.histories, _chunk(by_llm, len(items)), config.samples.max_history)
    progress = LineProgress("recommend", "parts")
    try:
        context = StageContext(config, run, folder, folders, progress)
        titles = items["title"].to_pylist()
        source, shown = _source(context, request, items, asked.allowed)
        listing = Listing(
            items["item_id"].to_pylist(),
            titles,
            title_groups(shown if shown is not None else titles),
            asked.allowed,
            request.k,
            request.keep_seen,
        )
        pool = llm_pool(context, len(chunks)) if by_llm else scoring_pool(context, len(chunks))
        arguments = {"folder": folder, "source": source, "listing": listing}
        map_shards(RecommendWorker, arguments, chunks, folder.child(_CHUNKS), pool, progress)
    finally:
        progress.close()
    return (folder.read_table(f"{_CHUNKS}/{shard_name(index)}.parquet") for index in chunks)


def _chunk(by_llm: bool, items: int) -> int:
    return _LLM_CHUNK if by_llm else max(_LLM_CHUNK, min(_CHUNK, _SCORES // items))


def _write_users(folder: Storage, histories: UserHistories, size: int, max_history: int) -> list[int]:
    """Cut the users into chunks that depend on the data alone, and return the chunks' numbers."""
    table = pa.table(
        {
            "user_id": pa.array(histories.users, pa.string()),
            # The model sees as much of a history as samples show.
            "history": list_array(histories.items.tail(max_history)),
            "seen": list_array(histories.items),
        }
    )
    chunks = list(range(-(-table.num_rows // size)))
    for index in chunks:
        folder.write_table(users_file(index), table.slice(index * size, size))
    return chunks


def _source(
    context: StageContext, request: RecommendRequest, items: pa.Table, allowed: npt.NDArray[np.bool_] | None
) -> tuple[RankerSource, Sequence[str] | None]:
    """Return the source from which workers build the model, and the titles as the LLM sees them if it is used.

    A constrained search has at least as many beams as a list has items, since it finds no more titles than beams.
    """
    model = request.model
    if model == "popularity":
        return PopularitySource(items["count"].to_numpy()), None
    if model == "surrogate":
        weights = trained_surrogate(context.folder("surrogate"), context.out.child(_CHUNKS), None)
        return SurrogateRankerSource(weights, len(items)), None
    titles = llm_titles(context.config, context.folder("ingest")).titles[1:]
    embeddings, _ = embed_titles(context, titles)
    task = llm_task(context)
    if model == "similarity":
        return SimilaritySource(embeddings, task.max_items), titles
    adapter = context.folder("finetune") if model == "llm" else None
    priors = title_priors(context, task, adapter, False, titles) if task.prior_correction else None
    if task.decoding == "constrained":
        task = replace(task, beams=replace(task.beams, beams=max(task.beams.beams, request.k)))
    return LlmSource(task, adapter, titles, embeddings, priors, allowed), titles


def _write(folder: Storage, file: str, parts: Iterator[pa.Table]) -> int:
    """Write all lists as one file, with one chunk in memory at a time, and return the number of rows."""
    rows = 0
    with tempfile.TemporaryDirectory(prefix="dealrec-") as local:
        path = Path(local, file)
        if file.endswith(".jsonl"):
            with path.open("w", encoding="utf-8") as stream:
                for table in parts:
                    rows += table.num_rows
                    stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())
        else:
            with pq.ParquetWriter(path, RECOMMENDATIONS, compression="zstd") as writer:
                for table in parts:
                    rows += table.num_rows
                    writer.write_table(table)
        folder.write_bytes(file, path.read_bytes())
    return rows
