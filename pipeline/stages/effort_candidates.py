"""The samples of a run that get an effort score: a rule, and the influence scores that it reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cluster.errors import UserError
from cluster.shards import shard_name
from cluster.storage import Storage
from scoring.candidate_rule import CandidateRule


@dataclass(frozen=True)
class Candidates:
    """A rule, and the folder of the influence scores that it reads."""

    rule: CandidateRule
    influence: Storage

    @classmethod
    def over(cls, influence: Storage, shards: int, share: float) -> Candidates:
        """Build the rule that draws `share` of all samples in expectation, by the scores of that many shards."""
        return cls(CandidateRule.over(lambda: (_scores(influence, index) for index in range(shards)), share), influence)

    def chosen(self, index: int, sample_id: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return which samples of a shard are candidates, bool [N]."""
        return self.rule.chosen(sample_id, _scores(self.influence, index))

    def weights(self, index: int) -> npt.NDArray[np.int64]:
        """Return what each sample of a shard would stand for, int64 [N], as `CandidateRule.weights` does."""
        return self.rule.weights(_scores(self.influence, index))


def require_candidates(share: float, drawn: bool) -> None:
    """Raise `UserError` if the share is so small that no sample is drawn."""
    if not drawn:
        raise UserError(f"effort.candidates: {share:g} of the samples is not a single one.", "Raise it.")


def _scores(folder: Storage, index: int) -> npt.NDArray[np.float32]:
    table = folder.read_table(f"{shard_name(index)}.parquet", ["influence"])
    scores: npt.NDArray[np.float32] = table.column("influence").to_numpy()
    return scores
