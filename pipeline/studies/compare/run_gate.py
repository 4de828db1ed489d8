"""Compare two complete runs: the tuned models on the same test users, paired by sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.engine.config_file import load_run_config
from pipeline.engine.graph import Graph
from pipeline.engine.manifest import Manifest, read_manifest
from pipeline.engine.sample_tables import ragged_column
from pipeline.stages.stage_list import stages_of
from scoring.ragged import Ragged
from training.ranking.cutoffs import CUTOFFS, HEADLINE_CUTOFF
from training.ranking.ranking_metrics import Interval, paired_differences, user_metrics

#: The number of users that two runs with different test users must have in common.
LEAST_COMMON = 30


@dataclass(frozen=True)
class MetricDifference:
    """A metric of two models over the same users: the means of both, and the paired difference of the first."""

    metric: str
    ours: float
    theirs: float
    difference: Interval


@dataclass(frozen=True)
class GateResult:
    """The result of a gate.

    Attributes
    ----------
    users : the number of test users that both were asked for.
    deciding : the metric that decides.
    differences : all metrics, those at the lowest cut-off first.
    warnings : sentences for a person.
    """

    users: int
    deciding: str
    differences: tuple[MetricDifference, ...]
    warnings: tuple[str, ...]

    @property
    def decision(self) -> Interval:
        """The difference that decides."""
        return next(row.difference for row in self.differences if row.metric == self.deciding)


@dataclass(frozen=True)
class _Evaluation:
    """A run's evaluation of its tuned model: its rows of the predictions, and the settings and data behind them."""

    run: Storage
    mask_seen: bool
    cutoffs: tuple[int, ...]
    items: pa.Table
    predictions: pa.Table
    users: pa.Table

    def ranks(self, rows: npt.NDArray[np.int64]) -> Ragged:
        return ragged_column(self.predictions, "ranks").take(rows)


def compare_runs(new: Storage, old: Storage) -> GateResult:
    """Compare the tuned model of one run with that of another. This only reads, and needs neither Ray nor an LLM.

    Raises
    ------
    UserError : a folder is no run or holds no evaluation, the two are the same run, or their ranks do not compare:
        they have different catalogues, no test user in common, or other targets or seen items of the same users.
    """
    if new.uri == old.uri:
        raise UserError(f"--against names the run itself, {old.uri}.", "Name the directory of another run.")
    ours, theirs = _read(new), _read(old)
    _check_catalogues(ours, theirs)
    if ours.mask_seen != theirs.mask_seen:
        raise UserError(
            f"evaluate.mask_seen is {str(ours.mask_seen).lower()} in {new.uri} and {str(theirs.mask_seen).lower()} in "
            f"{old.uri}, so their ranks do not compare.",
            "Evaluate both with the same value.",
        )
    mine, other = _common(ours, theirs)
    _check_users(ours, theirs, mine, other)
    cutoffs = sorted(set(ours.cutoffs) & set(theirs.cutoffs))
    below = [cutoff for cutoff in cutoffs if cutoff <= HEADLINE_CUTOFF]
    # The predictions hold the ranks of all targets, so a metric at 10 can be computed whatever the runs report.
    deciding = max(below, default=HEADLINE_CUTOFF)
    measured = sorted({*cutoffs, deciding})
    ranks = ours.ranks(mine), theirs.ranks(other)
    means = [{name: float(np.nanmean(values)) for name, values in user_metrics(r, measured).items()} for r in ranks]
    found = paired_differences(ranks[0], [ranks[1]], measured)
    rows = [MetricDifference(name, means[0][name], means[1][name], value) for name, value in found.items()]
    return GateResult(len(mine), f"ndcg@{deciding}", tuple(rows), tuple(_warnings(ours, theirs, len(mine))))


def _read(run: Storage) -> _Evaluation:
    config = load_run_config(run)
    graph = Graph(stages_of(config), config, run)
    data, evaluation = (graph.folder(graph.stage(name)) for name in ("ingest", "evaluate"))
    made = read_manifest(evaluation)
    if made is None:
        raise UserError(
            f"{run.uri} holds no complete evaluation.", f"Complete it: `dealrec run CONFIG --run-dir {run.uri}`."
        )
    try:
        return _read_files(run, made, data, evaluation)
    except FileNotFoundError as error:
        raise UserError(
            f"{run.uri} lacks a file of its evaluation: {error}.",
            f"Copy the whole run directory, or recompute: `dealrec run CONFIG --run-dir {run.uri} --from evaluate`.",
        ) from error


def _read_files(run: Storage, made: Manifest, data: Storage, evaluation: Storage) -> _Evaluation:
    metrics = evaluation.read_json("metrics.json")
    predictions = evaluation.read_table("predictions.parquet", ["model", "sample_id", "targets", "ranks"])
    names = evaluation.list("_users", suffix=".parquet")
    if not names:
        raise FileNotFoundError(evaluation.child("_users").uri)
    return _Evaluation(
        run,
        bool(made.fingerprint.config["evaluate.mask_seen"]),
        tuple(metrics.get("cutoffs", CUTOFFS)),
        data.read_table("items.parquet", ["item_id", "title"]),
        predictions.filter(pc.equal(predictions.column("model"), metrics["focus"])),
        pa.concat_tables([evaluation.read_table(f"_users/{name}", ["sample_id", "user_id", "seen"]) for name in names]),
    )


def _check_catalogues(ours: _Evaluation, theirs: _Evaluation) -> None:
    """Raise `UserError` unless both rank the same items under the same titles."""
    if ours.items.equals(theirs.items):
        return
    mine, other = (set(each.items.column("item_id").to_pylist()) for each in (ours, theirs))
    if mine != other:
        apart = sorted(map(str, mine ^ other))
        what = f"{len(mine):,} items and {len(other):,}; {len(apart):,} are in one alone, such as {apart[0]}"
    else:
        pairs = zip(ours.items.to_pylist(), theirs.items.to_pylist(), strict=True)
        named = next(str(row["item_id"]) for row, also in pairs if row != also)
        what = f"other titles of the same items, such as {named}"
    raise UserError(
        f"The catalogues of {ours.run.uri} and {theirs.run.uri} differ ({what}), so their ranks do not compare.",
        "Compare runs of one log and one catalogue.",
    )


def _common(ours: _Evaluation, theirs: _Evaluation) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the rows of the users that both runs have, in the order of ours."""
    mine, other = (each.predictions.column("sample_id").to_numpy() for each in (ours, theirs))
    common, at, where = np.intersect1d(mine, other, assume_unique=True, return_indices=True)
    if len(common) == 0 or (len(common) < LEAST_COMMON and not len(common) == len(mine) == len(other)):
        raise UserError(
            f"{ours.run.uri} and {theirs.run.uri} have {len(common) or 'no'} test "
            f"{'user' if len(common) == 1 else 'users'} in common; a comparison of different users needs at least "
            f"{LEAST_COMMON}.",
            "Evaluate both with the same data.split, evaluate.users and evaluate.seed.",
        )
    order = np.argsort(at)
    return at[order], where[order]


def _check_users(
    ours: _Evaluation, theirs: _Evaluation, mine: npt.NDArray[np.int64], other: npt.NDArray[np.int64]
) -> None:
    """Raise `UserError` unless the common users have the same targets among the same candidates."""
    asked = [
        {
            "targets": ragged_column(each.predictions, "targets").take(rows),
            "seen items": ragged_column(each.users, "seen").take(_places(each, rows)),
        }
        for each, rows in ((ours, mine), (theirs, other))
    ]
    for name in asked[0]:
        different = _differing_row(asked[0][name], asked[1][name])
        if different is not None:
            user = ours.users.column("user_id")[int(_places(ours, mine)[different])].as_py()
            raise UserError(
                f"The logs of {ours.run.uri} and {theirs.run.uri} differ: user {user} has other {name}, so their ranks "
                "do not compare.",
                "Compare runs of one log, with the same data.split.",
            )


def _places(each: _Evaluation, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the rows of the users' table that belong to rows of the predictions."""
    known = each.users.column("sample_id").to_numpy()
    order = np.argsort(known)
    wanted = each.predictions.column("sample_id").to_numpy()[rows]
    places: npt.NDArray[np.int64] = order[np.searchsorted(known, wanted, sorter=order)]
    return places


def _differing_row(left: Ragged, right: Ragged) -> int | None:
    """Return the first row in which two lists of rows differ."""
    if np.array_equal(left.offsets, right.offsets) and np.array_equal(left.values, right.values):
        return None
    return next(row for row in range(len(left)) if not np.array_equal(left.row(row), right.row(row)))


def _warnings(ours: _Evaluation, theirs: _Evaluation, common: int) -> Sequence[str]:
    mine, other = len(ours.predictions), len(theirs.predictions)
    if common == mine == other:
        return []
    return [f"The runs have {mine:,} and {other:,} test users; they are compared on the {common:,} that both have"]
