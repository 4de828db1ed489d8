"""The actors of a comparison by proxies: each takes one arm after another from selection to ranks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from cluster.broadcast import Broadcast
from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.engine.events import EventLog
from pipeline.engine.manifest import read_manifest
from pipeline.engine.sample_tables import list_array, ragged_column, read_titles
from pipeline.engine.selection_record import read_selection
from pipeline.stages.stage_list import STAGES
from pipeline.studies.compare.arms import Arm, arm_graph
from pipeline.studies.compare.compared_users import read_users, tuning_pairs
from scoring.exceptions import ScoringError
from training.loops.proxy_loop import PROXY_SETTINGS, Pairs, tune_proxy
from training.loops.proxy_model import LEXICAL, build_proxy
from training.loops.proxy_ranking import rank_users
from training.ranking.grounding import TitleSpace
from training.ranking.ranking_metrics import title_groups
from training.ranking.title_features import lexical_directions

OUTPUT = pa.schema([("model", pa.string()), ("split", pa.string()), ("ranks", pa.list_(pa.int32()))])


def _directions(name: str, titles: Sequence[str], embeddings: Broadcast | None) -> npt.NDArray[np.float32]:
    """Return float32 [n, d], what the proxy of that name knows of the titles."""
    if name == LEXICAL:
        return lexical_directions(titles)
    assert embeddings is not None
    return TitleSpace(embeddings.get()["titles"].astype(np.float32, copy=False)).directions


class ProxyWorker:
    """Select a coreset, tune every proxy on it, and rank for all users.

    Parameters
    ----------
    arms : the arms by shard number; None stands for the untuned proxies.
    embeddings, titles : the LLM's `titles` [n, d], and the titles as it sees them; None without the semantic proxy.
    """

    def __init__(
        self,
        config: Config,
        run: Storage,
        arms: Mapping[int, Arm | None],
        embeddings: Broadcast | None,
        titles: Sequence[str] | None,
        proxies: Sequence[str],
    ) -> None:
        torch.set_num_threads(1)
        self._config = config
        self._run = run
        self._arms = arms
        data = run.child(STAGES[0].folder)
        # The lexical proxy compares whole titles, however much of them the LLM sees.
        seen = {name: read_titles(data)[1:] if name == LEXICAL else titles or () for name in proxies}
        self._groups = {name: title_groups(shown) for name, shown in seen.items()}
        self._directions = {name: torch.from_numpy(_directions(name, seen[name], embeddings)) for name in proxies}
        self._users = read_users(config, data)
        self._valid = tuning_pairs(config, self._users["valid"])

    def __call__(self, index: int) -> tuple[pa.Table, Mapping[str, object]]:
        arm = self._arms[index]
        seed = 0 if arm is None else arm.training_seed
        coreset, facts = (None, {}) if arm is None else self._select(arm)
        parts = []
        facts = {**facts, "tuning": {}}
        for name, directions in self._directions.items():
            model = build_proxy(name, directions, self._config.llm.max_items, seed)
            if coreset is not None:
                start = time.monotonic()
                tuned = tune_proxy(model, coreset, self._valid, PROXY_SETTINGS[name], seed)
                facts["tuning"][name] = {**asdict(tuned), "seconds": time.monotonic() - start}
            for split, users in self._users.items():
                ranks = list_array(rank_users(model, users, self._groups[name]))
                columns = [pa.array([name] * len(ranks)), pa.array([split] * len(ranks)), ranks]
                parts.append(pa.Table.from_arrays(columns, schema=OUTPUT))
        return pa.concat_tables(parts), facts

    def _select(self, arm: Arm) -> tuple[Pairs, dict[str, Any]]:
        """Return the arm's coreset, selecting it first unless it is there."""
        graph = arm_graph(self._config, self._run, arm)
        stage = graph.stage("select")
        folder = graph.folder(stage)
        try:
            graph.execute([stage], EventLog(self._run.child("arms", arm.name)))
        except ScoringError as error:
            raise UserError(f"{arm.name}: {error}.", "Leave the selector out, or change its settings.") from error
        table = folder.read_table("coreset.parquet", ["history", "target"])
        if not table.num_rows:
            raise UserError(f"{arm.name}: the coreset is empty.", "Ask for a larger size, or leave the selector out.")
        made, report = read_manifest(folder), read_selection(folder)
        assert made is not None
        history = ragged_column(table, "history").tail(self._config.llm.max_items)
        facts = {
            "samples": table.num_rows,
            "sees_validation": report["sees_validation"],
            "selection_seconds": made.seconds,
        }
        return Pairs(history, table.column("target").to_numpy()), facts
