"""Parameters of any method side by side, as the references in memory read them; each method is given its own."""

from __future__ import annotations

from dataclasses import dataclass, fields

from scoring import selection
from scoring.reference import Reference
from scoring.selection import Selection, SelectionParams, Shards, selector


@dataclass(frozen=True)
class FlatParams:
    method: str = "dealrec"
    size: float = 0.02
    lambda_: float = 0.5
    strata: int = 50
    hard_prune: float = 0.1
    normalise: str = "minmax"
    seed: int = 0
    sampling: str = "strata"
    sharpness: float = 1.0
    transport_epsilon: float = 0.05
    transport_points: int = 2048

    def of_method(self) -> SelectionParams:
        known = selector(self.method).Settings.names()
        values = {field.name.rstrip("_"): getattr(self, field.name) for field in fields(self)}
        settings = {name: value for name, value in values.items() if name in known}
        return SelectionParams(self.method, self.size, self.seed, settings)


def select(shards: Shards, params: FlatParams, reference: Reference | None = None) -> Selection:
    return selection.select(shards, params.of_method(), reference)
