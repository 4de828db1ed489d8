"""A run against another as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from cluster.storage import Storage
from pipeline.studies.compare.run_gate import MetricDifference, compare_runs
from training.ranking.ranking_metrics import Interval


@dataclass(frozen=True)
class Gate:
    """The tuned model of a run against that of another, over the same test users.

    Attributes
    ----------
    run, against : the directories of the two runs.
    users : the number of test users that both were asked for.
    metric : the metric that decides: NDCG@10, or at the largest cut-off below 10 that both runs have.
    differences : each metric of both models, with the paired difference of the first from the second.
    worse, better : whether the run is below or above the other by `metric`, beyond chance: the 95% interval of the
        difference lies on one side of zero.
    warnings : sentences for a person.
    """

    run: str
    against: str
    users: int
    metric: str
    differences: Mapping[str, MetricDifference]
    worse: bool
    better: bool
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, run: Storage, against: Storage) -> Gate:
        """Compare two runs. Raises `UserError` as `compare_runs` does."""
        found = compare_runs(run, against)
        return cls(
            run=run.uri,
            against=against.uri,
            users=found.users,
            metric=found.deciding,
            differences={row.metric: row for row in found.differences},
            worse=found.decision.sign < 0,
            better=found.decision.sign > 0,
            warnings=found.warnings,
        )

    @property
    def decision(self) -> Interval:
        """The difference by the metric that decides."""
        return self.differences[self.metric].difference

    def table(self) -> pa.Table:
        """Return a row for each metric: both means, the difference, and the ends of its interval."""
        return pa.Table.from_pylist(
            [
                {
                    "metric": row.metric,
                    "run": row.ours,
                    "against": row.theirs,
                    "difference": row.difference.mean,
                    "low": row.difference.low,
                    "high": row.difference.high,
                }
                for row in self.differences.values()
            ]
        )
