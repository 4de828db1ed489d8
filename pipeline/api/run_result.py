"""A run directory as a value: the coreset, the metrics, the report, the gradients."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import UserError
from cluster.masking import masked
from cluster.storage import Storage
from pipeline.api.calls import python_faults
from pipeline.api.masked_repr import MaskedRepr
from pipeline.driver.run_tables import StageTime, model_metrics, stage_times
from pipeline.engine.config import Config
from pipeline.engine.config_file import load_run_config
from pipeline.engine.graph import Graph
from pipeline.engine.manifest import read_manifest
from pipeline.engine.selection_record import read_selection
from pipeline.ingest.statistics_record import read_statistics
from pipeline.stages.stage_list import stages_of
from training.ranking.ranking_metrics import Interval

if TYPE_CHECKING:
    from pipeline.api.recommending import GivenHistories, GivenIds, Recommendations

_REPORT = "report.html"


@dataclass(frozen=True, repr=False)
class Run(MaskedRepr):
    """A run and its results. Everything is read from the run directory when it is asked for.

    Attributes
    ----------
    config : the configuration.
    run_dir : the run directory, an absolute path or a URI.
    """

    config: Config = field(repr=False)
    run_dir: str

    def stages(self) -> tuple[StageTime, ...]:
        """Return the complete stages, in their order."""
        return tuple(stage_times(self._graph))

    def coreset(self) -> pa.Table:
        """Return the chosen samples, a row each in the order of `sample_id`.

        Columns are those of `coreset.parquet` (sample_id, user_id, the scores, the stratum), with `history`, oldest
        item first, and `target` as the item ids of the log, and `target_title`.

        Raises `UserError` when the stage select is not complete.
        """
        with python_faults():
            table = self._complete("select").read_table("coreset.parquet")
            items = self._complete("ingest").read_table("items.parquet", ["item_id", "title"])
        history, target = table["history"].combine_chunks(), pc.subtract(table["target"], 1)
        ids = items["item_id"].combine_chunks()
        named = pa.ListArray.from_arrays(history.offsets, ids.take(pc.subtract(history.values, 1)))
        columns = {"history": named, "target": ids.take(target), "target_title": items["title"].take(target)}
        table = table.drop_columns(["history", "target"])
        for name, column in columns.items():
            table = table.append_column(name, column)
        return table

    def scores(self, name: str) -> pa.Table:
        """Return the scores of a stage, `influence` or `effort`: sample_id, the score and its status, a row a sample.

        Raises `UserError` when that stage is not complete.
        """
        with python_faults():
            if name not in ("influence", "effort"):
                raise UserError(f"There are no scores {name}.", "Ask for influence or effort.")
            folder = self._complete(name)
        return pa.concat_tables(folder.read_table(file) for file in folder.list(suffix=".parquet"))

    def metrics(self) -> dict[str, dict[str, Interval]]:
        """Return each evaluated model's metrics, means over the test users with 95% intervals.

        Keys are the model's name, then the metric's: `recall@10`, `ndcg@10`, `mrr@10`, `map@10`, and so on for each of
        `evaluate.cutoffs`. Empty until the stage evaluate is complete.
        """
        models = model_metrics(self._graph)
        return {
            model: {name: Interval(v["mean"], v["low"], v["high"], int(v["users"])) for name, v in values.items()}
            for model, values in models.items()
        }

    def lists(self) -> dict[str, dict[str, float]]:
        """Return what each evaluated model's lists are like: how much of the catalogue they show, how popular it is.

        Keys are the model's name, then the figure's: `coverage@10`, `distinct@10`, `novelty@10`, `popularity@10` and,
        of a model that generates texts, `outside`. docs/METHOD.md defines them. Empty until the stage evaluate is
        complete.
        """
        folder = self._folder("evaluate")
        if read_manifest(folder) is None:
            return {}
        found: dict[str, dict[str, float]] = folder.read_json("metrics.json").get("lists", {})
        return found

    @property
    def report(self) -> str | None:
        """The path or URI of the report, one HTML file; None until the stage report is complete."""
        return f"{self.run_dir}/{_REPORT}" if read_manifest(self._folder("report")) else None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Collect the warnings of the complete stages about the log and the selection."""
        found: list[str] = []
        data, coreset = self._folder("ingest"), self._folder("select")
        if read_manifest(data) is not None:
            found += read_statistics(data).get("warnings", [])
        if read_manifest(coreset) is not None:
            found += read_selection(coreset).get("warnings", [])
        return tuple(found)

    def gradients(
        self, scope: str | Sequence[str] | None = None, *, shards: Sequence[int] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield the gradient of the surrogate's loss on every train sample, in record batches.

        This reads the run and needs no Ray. To spread it, give each worker some of `shards`.

        Parameters
        ----------
        scope : names of the surrogate's scopes, or patterns of its parameters; None takes `influence.scope`.
        shards : numbers of the train shards to go over; None takes all.

        Yields
        ------
        Batches of sample_id int64 and gradient fixed_size_list<float32>[P], at most 128 MiB of gradients each. The
        samples of a shard come in the order of their history's length.

        Raises `UserError` when the surrogate is not trained, and for a scope or shard that does not exist.
        """
        from pipeline.export.gradient_export import run_gradients

        chosen = (scope,) if isinstance(scope, str) else scope
        with python_faults():
            model, data = self._complete("surrogate"), self._complete("ingest")
            yield from run_gradients(model, data, self.config.influence.scope if chosen is None else chosen, shards)

    def recommend(
        self,
        histories: GivenHistories | None = None,
        k: int = 20,
        *,
        users: GivenIds | None = None,
        candidates: GivenIds | None = None,
        model: str = "llm",
        keep_seen: bool = False,
        format: Literal["parquet", "jsonl"] = "parquet",
        out: str | os.PathLike[str] | None = None,
        progress: bool | None = None,
    ) -> Recommendations:
        """Recommend items to users by this run; see `dealrec.recommend`.

        Parameters
        ----------
        histories : what users have chosen: a mapping from a user to items, oldest first, a table, or a path.
        k : the length of a list.
        users, candidates, model, keep_seen, format, out, progress : as of `dealrec.recommend`.

        Raises `UserError` as `dealrec.recommend` does.

        Examples
        --------
        >>> made = run.recommend({"new": ["i0", "i1"]}, k=2, model="popularity")
        >>> list(made.to_pandas().columns)
        ['user_id', 'rank', 'item_id', 'title', 'score']
        """
        from pipeline.api.recommending import recommend

        return recommend(
            self,
            histories=histories,
            k=k,
            users=users,
            candidates=candidates,
            model=model,
            keep_seen=keep_seen,
            format=format,
            out=out,
            progress=progress,
        )

    @property
    def _graph(self) -> Graph:
        return Graph(stages_of(self.config), self.config, Storage.at(self.run_dir))

    def _folder(self, stage: str) -> Storage:
        graph = self._graph
        return graph.folder(graph.stage(stage))

    def _complete(self, stage: str) -> Storage:
        folder = self._folder(stage)
        if read_manifest(folder) is None:
            raise UserError(
                f"The stage {stage} is not complete in {self.run_dir}.",
                f"Run it first: `dealrec run CONFIG --run-dir {self.run_dir} --until {stage}`.",
            )
        return folder

    def _repr_html_(self) -> str:
        cells = "".join(f"<tr><td>{escape(row.stage)}</td><td>{row.seconds:,.1f} s</td></tr>" for row in self.stages())
        return f"<p>Run in {escape(masked(self.run_dir))}</p><table><tr><th>stage</th><th>time</th></tr>{cells}</table>"


def load_run(run_dir: str | os.PathLike[str]) -> Run:
    """Open the directory of an earlier run, complete or not. Nothing is computed and nothing is written.

    Parameters
    ----------
    run_dir : a folder or URI.

    Raises `UserError` for a folder that is not a run, and for a configuration that this version does not read.

    Examples
    --------
    >>> run = dealrec.load_run("runs/shop")
    >>> [stage.stage for stage in run.stages()]
    ['ingest', 'surrogate', 'select']
    """
    with python_faults():
        place = Storage.at(os.fspath(run_dir))
        return Run(load_run_config(place), place.uri)
