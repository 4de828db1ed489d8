"""One pass over the train samples that gives each of them a score or a feature: the skeleton of the scoring stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cluster.errors import UserError
from cluster.resources import PoolPlan
from cluster.sharded_map import ShardWorker, map_shards
from cluster.shards import ShardRecord, pass_cost
from pipeline.engine.graph import StageContext
from pipeline.engine.sample_tables import train_shards


@dataclass(frozen=True)
class ScoringPass:
    """A finished pass.

    Attributes
    ----------
    records : one record a shard.
    workers : the number of workers that the pass began with.
    """

    records: Sequence[ShardRecord]
    workers: int

    @classmethod
    def run(
        cls,
        context: StageContext,
        pool: PoolPlan,
        worker: Callable[..., ShardWorker],
        arguments: Mapping[str, object],
        at_once: int = 1,
    ) -> ScoringPass:
        """Process all train shards; a killed pass resumes with the missing ones.

        Parameters
        ----------
        worker, arguments : each actor makes `worker(data=…, **arguments)`, where `data` is the folder of the log.
        at_once : the largest number of shards that a worker is given in one call.
        """
        data = context.folder("ingest")
        given = {"data": data, **arguments}
        return cls(
            map_shards(worker, given, train_shards(data), context.out, pool, context.progress, at_once), pool.minimum
        )

    @property
    def rows(self) -> int:
        return sum(record.rows for record in self.records)

    def count(self, fact: str) -> int:
        """Return the sum of a count over the shards."""
        return sum(int(record.facts[fact]) for record in self.records)

    def total(self, fact: str) -> float:
        """Return the sum of a quantity over the shards, in their order."""
        return float(sum(record.facts[fact] for record in self.records))

    def require_finite(self, score: str, allowed: float, remedy: str) -> int:
        """Count the scores that are not finite. Raises `UserError` above the allowed share of all rows.

        Parameters
        ----------
        score : the section of the config whose `max_nonfinite` is the allowed share.
        """
        nonfinite = self.count("nonfinite")
        if nonfinite > allowed * self.rows:
            raise UserError(
                f"{nonfinite} of {self.rows} {score} scores are not finite ({score}.max_nonfinite allows "
                f"{allowed:.2%}).",
                remedy,
            )
        return nonfinite

    def facts(self) -> dict[str, object]:
        """Return the facts that every such stage's manifest holds: rows, shards, attempts, workers and costs."""
        shards = [{"index": r.index, "rows": r.rows, "digest": r.digest, "attempt": r.attempt} for r in self.records]
        return {"rows": self.rows, "shards": shards, "workers": self.workers, **pass_cost(self.records)}
