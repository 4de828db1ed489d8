"""Stage select: from two scores a sample, and whatever else the method needs, to a coreset."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import UserError
from cluster.shards import shard_name
from cluster.storage import Storage
from pipeline.engine.config import SelectConfig
from pipeline.engine.graph import StageContext
from pipeline.engine.manifest import read_manifest
from pipeline.engine.sample_tables import TRAIN_SAMPLES, train_shards
from pipeline.engine.selection_record import SELECTION_FILE
from pipeline.stages.effort_candidates import Candidates
from pipeline.stages.reference_period import reference_period
from pipeline.stages.select_inputs import SelectInputs
from pipeline.stages.selection_needs import REFERENCE_INFLUENCE, SURROGATE_FEATURES, SelectionNeeds
from scoring.candidate_rule import CandidateRule
from scoring.exceptions import NoUsableSampleError, SelectorError, TooFewSamplesError
from scoring.selection import ScoreShard, Selection, SelectionParams, select, selector
from scoring.selectors.reference_draw import ReferenceSelector

_COLUMNS = ["sample_id", "user_id", "history", "target"]


def selection_params(section: SelectConfig) -> SelectionParams:
    size = section.size if section.size < 1 else int(section.size)
    return SelectionParams(section.method, size, section.seed, section.selector_settings())


def run_select(context: StageContext) -> Mapping[str, object]:
    """Stream over the score files, choose, and write the coreset with its report."""
    data = context.folder("ingest")
    params = selection_params(context.config.select)
    method = selector(params.method)
    indices = train_shards(data)
    needs = SelectionNeeds.of(context.config)
    period = reference_period(context) if needs.reference else None
    inputs = SelectInputs(data, _score_folders(context, needs), method.scores, method.features, _candidates(context))
    passes = itertools.count(1)

    def shards() -> Iterator[ScoreShard]:
        number, rows = next(passes), 0
        for done, shard in enumerate(inputs.shards(indices)):
            context.progress.update(done, len(indices), rows=rows, reading=number)
            yield shard
            rows += len(shard.sample_id)

    try:
        selection = select(shards, params, period.reference(context) if period and method.sees_validation else None)
    except NoUsableSampleError as error:
        raise UserError(
            f"select.method {params.method}: {error}.",
            "The score files say why in their column status; or choose a method that needs no scores, such as random.",
        ) from error
    except TooFewSamplesError as error:
        raise UserError(
            f"select.size: {error}.", "Lower select.size, or take more samples by samples.per_user."
        ) from error
    except SelectorError as error:
        raise UserError(
            f"select.method {params.method}: {error}.",
            "Correct the class (docs/EXTENDING.md has its rules), or choose another select.method.",
        ) from error
    rows = _train_rows(data, indices)
    if period is not None and issubclass(method, ReferenceSelector):
        rows = map(period.table, period.indices())
    table = coreset_table(rows, selection)
    report = selection.report | _sight(needs, context.config.select)
    report["warnings"] = [*report["warnings"], *(period.warnings if period else ())]
    context.out.write_table("coreset.parquet", table)
    context.out.write_json(SELECTION_FILE, report)
    context.progress.update(len(indices), len(indices), chosen=table.num_rows)
    return {key: report[key] for key in ("samples", "usable", "budget", "chosen", "warnings")}


def _score_folders(context: StageContext, needs: SelectionNeeds) -> dict[str, Storage]:
    """Return the folders of scores and features under the names that selectors use.

    An arm of a comparison has the scores that its method needs; a run has both.
    """
    named = ("influence", "effort", *SURROGATE_FEATURES)
    folders = {name: context.folder(name) for name in named if name in context.folders}
    if needs.aims_influence:
        folders["influence"] = context.folder(REFERENCE_INFLUENCE)
    return folders


def _candidates(context: StageContext) -> Candidates | None:
    """Return the rule that drew the samples with an effort score; None if all have one or the method needs none."""
    if "effort" not in selector(context.config.select.method).scores:
        return None
    made = read_manifest(context.folder("effort"))
    rule = None if made is None else made.facts.get("candidates")
    return None if rule is None else Candidates(CandidateRule.of(rule), context.folder("influence"))


def _sight(needs: SelectionNeeds, section: SelectConfig) -> dict[str, object]:
    """Record whether the selection looks at the validation period, itself or through the influence."""
    sight: dict[str, object] = {"sees_validation": needs.sees_validation}
    if needs.reference is not None:
        sight["reference"] = section.reference
        sight["reference_users"] = section.reference_users
    return sight


def _train_rows(data: Storage, indices: Sequence[int]) -> Iterator[pa.Table]:
    for index in indices:
        yield data.read_table(f"{TRAIN_SAMPLES}/{shard_name(index)}.parquet", _COLUMNS)


def coreset_table(rows: Iterator[pa.Table], selection: Selection) -> pa.Table:
    """Return the chosen samples with their scores, ordered by sample id.

    Raises `ValueError` when `rows` do not hold them all.
    """
    chosen = pa.array(selection.sample_id, pa.int64())
    parts = [part.filter(pc.is_in(part.column("sample_id"), value_set=chosen)) for part in rows]
    samples = pa.concat_tables(parts).sort_by("sample_id")
    scores = {
        "influence": pa.array(selection.influence, pa.float32()),
        "effort": pa.array(selection.effort, pa.float32()),
        "score": pa.array(selection.score, pa.float32()),
        "stratum": pa.array(selection.stratum, pa.int32()),
    }
    if not np.array_equal(samples.column("sample_id").to_numpy(), selection.sample_id):
        raise ValueError("the selection names samples that the data does not hold")
    for name, column in scores.items():
        samples = samples.append_column(name, column)
    return samples
