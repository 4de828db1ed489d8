"""The content of a report: plain values that the caller gathers from a run directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline.engine.json_value import JsonRecord
from pipeline.engine.selection_record import SelectionReport
from training.ranking.ranking_metrics import Interval

Metric = float | Mapping[str, float]
"""A mean alone, or {"mean", "low", "high"} with the ends of its interval."""

Metrics = Mapping[str, Mapping[str, Metric]]
"""Model label → metric such as "recall@10" → value; both in the order of display."""

Array = npt.NDArray[np.floating]


#: The two subjects of a gain: tuning itself, and the selection of the coreset.
TUNING, SELECTION = "tuning", "the selection"


@dataclass(frozen=True)
class Gain:
    """The difference between a run's own model and another one, paired over the same users.

    Attributes
    ----------
    subject : whether the difference is due to TUNING or to SELECTION.
    against : the other model, as a sentence names it.
    metric : such as "ndcg@10".
    ours, theirs : the means of the two.
    difference : the mean of ours minus theirs by user.
    """

    subject: str
    against: str
    metric: str
    ours: float
    theirs: float
    difference: Interval


@dataclass(frozen=True)
class ReportData:
    """The data of a run, complete or not. A part that is None or empty is shown as not run.

    Attributes
    ----------
    name : the name of the log.
    created : the time of the report, as text.
    statistics : the statistics of the log. "dropped" maps reasons to rows, and "warnings" holds sentences. All else is
        listed and may nest.
    stages : {"name", "seconds" (None if unknown), "status"}, in the order of the run.
    surrogate : {"epochs": [{"epoch", "train_loss", "valid": {"ndcg@10": …}}], "best_epoch", …}. A metric of
        an epoch may also lie flat, as "valid_ndcg@10".
    influence, effort : the scores of all samples, or of one uniform subsample of them, [N]; NaN is allowed.
    picked_influence, picked_effort : the scores of the coreset, [M].
    selection : the report of `scoring.selection.Selection`.
    finetune : {"train": [{"step", "loss"}], "valid": [{"step", "loss"}], "untuned_loss", "best_step", …}.
    metrics : the metrics of every model over all test users.
    slices : slice name ("warm", "cold") → metrics over the targets of that slice.
    lists : the figures of every model's lists, such as "coverage@10", and "outside".
    gains : what the run gained, the difference that matters most first.
    focus : the label of the run's own model.
    baseline : the label of the model that the charts mark.
    users_evaluated : the number of test users behind the metrics.
    examples : {"user", "history": [titles], "targets": [titles], "generated", "lists": [{"model", "rank", "titles":
        [{"title", "hit"}]}]}, where `rank` is that of the first target.
    config_yaml : the whole configuration, as text.
    provenance : versions, commit, fingerprints; may nest.
    warnings : the warnings of the run, as sentences.
    """

    name: str
    created: str = ""
    statistics: JsonRecord = field(default_factory=dict)
    stages: Sequence[JsonRecord] = ()
    surrogate: JsonRecord | None = None
    influence: Array | None = None
    effort: Array | None = None
    picked_influence: Array | None = None
    picked_effort: Array | None = None
    selection: SelectionReport | None = None
    finetune: JsonRecord | None = None
    metrics: Metrics | None = None
    slices: Mapping[str, Metrics] | None = None
    lists: Mapping[str, Mapping[str, float]] | None = None
    gains: Sequence[Gain] = ()
    focus: str | None = None
    baseline: str | None = None
    users_evaluated: int | None = None
    examples: Sequence[JsonRecord] = ()
    config_yaml: str = ""
    provenance: Mapping[str, object] = field(default_factory=dict)
    warnings: Sequence[str] = ()
