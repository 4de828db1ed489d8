"""How the time of each stage grows from a share of the log to the whole of it.

A stage takes a fixed time (starting workers, loading models), and a time in proportion to its work, which its workers
share. The fixed time is what the share run took beyond its measured work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from pipeline.engine.config import Config
from pipeline.stages.selection_needs import FEATURE_NAMES, REFERENCE_INFLUENCE
from pipeline.studies.forecast.line import line_through
from pipeline.studies.forecast.measure import Measured, RunSize
from pipeline.studies.forecast.plan_rows import TimeTotal
from pipeline.studies.forecast.stage_facts import (
    EffortFacts,
    EvaluateFacts,
    FinetuneFacts,
    InfluenceFacts,
    SurrogateStageFacts,
)
from scoring.selection import FULL
from scoring.selectors.coreset_size import bounded_size


@dataclass(frozen=True)
class Forecast:
    """One stage of the whole run.

    Attributes
    ----------
    fixed, work : the fixed and the growing part of the time, in seconds.
    basis : what `work` is computed from.
    memory : the peak memory of one worker in bytes; that of the driver, on the share, if it does the work itself.
    """

    stage: str
    fixed: float
    work: float
    basis: str
    memory: int

    @property
    def seconds(self) -> float:
        return self.fixed + self.work


def forecasts(
    config: Config, large: Measured, small: Measured, whole: RunSize, workers: Mapping[str, int]
) -> list[Forecast]:
    """Return one forecast per stage, in order.

    Parameters
    ----------
    large, small : the share runs of `surrogate_side` and `llm_side`.
    workers : the numbers of influence, effort, evaluate and feature workers that the whole log will have.
    """
    return [
        _line("ingest", large, small, whole.interactions, "interactions"),
        _surrogate(config, large, whole),
        _influence(config, large, whole, workers["influence"], "influence"),
        _effort(config, large, whole, workers["effort"]),
        *_features(config, large, whole, workers),
        _line("select", large, small, whole.samples, "samples"),
        _finetune(config, small, whole),
        _evaluate(config, small, whole, workers["evaluate"]),
        Forecast("report", small.seconds["report"], 0.0, "as measured", small.driver["report"]),
    ]


def coreset_size(config: Config, samples: int) -> int:
    """Return the number of samples that fine-tuning gets."""
    if config.select.method == FULL:
        return samples
    return bounded_size(config.select.size, samples)


def _line(stage: str, large: Measured, small: Measured, amount: int, unit: str) -> Forecast:
    """Extrapolate the line through the two share runs, both of which had the same workers."""
    low, high = getattr(small.scale, unit), getattr(large.scale, unit)
    line = line_through((low, small.seconds[stage]), (high, large.seconds[stage]))
    basis = f"{amount:,} {unit}"
    if amount > max(low, high) and not line.told:
        basis += "; the shares do not show how it grows"
    return Forecast(stage, line.fixed, line.slope * amount, basis, large.driver[stage])


def _surrogate(config: Config, large: Measured, whole: RunSize) -> Forecast:
    facts = cast(SurrogateStageFacts, large.facts["surrogate"])
    rows = facts["epochs"]
    # The first epoch also allocates and compiles.
    targets_second = rows[-1]["samples_per_second"]
    each_valid = min(row["valid_seconds"] for row in rows)
    valid = each_valid * whole.valid_users / max(1, large.scale.valid_users)
    fixed = large.seconds["surrogate"] - len(rows) * (large.scale.targets / targets_second + each_valid)
    epochs = config.surrogate.epochs
    work = epochs * (whole.targets / targets_second + valid)
    basis = f"at most {epochs} epochs of {whole.targets:,} positions, {targets_second:,.0f}/s"
    # Every worker holds the sequences (int32) and the start of each window's targets (int64).
    more = 12 * max(0, whole.targets - large.scale.targets)
    return Forecast("surrogate", max(0.0, fixed), work, basis, facts["peak_memory"] + more)


def _influence(config: Config, large: Measured, whole: RunSize, workers: int, stage: str) -> Forecast:
    facts = cast(InfluenceFacts, large.facts[stage])
    growth = whole.samples / max(1, large.scale.samples)
    share = facts["workers"] / workers
    wanted = config.influence.curvature_samples
    curvature = whole.samples if wanted == "all" else min(wanted, whole.samples)
    # A step of LiSSA uses one chunk, however many there are.
    follows = config.influence.solver not in ("none", "lissa")
    solve = facts["solve_seconds"] * (curvature / max(1, facts["curvature_samples"]) if follows else 1.0)
    busy = facts["busy_seconds"] / facts["workers"]
    fixed = large.seconds[stage] - facts["gradient_seconds"] - facts["solve_seconds"] - busy
    work = (facts["gradient_seconds"] * growth + solve + busy * growth) * share
    basis = f"{whole.samples:,} samples, {curvature:,} for curvature"
    return Forecast(stage, max(0.0, fixed), work, basis, facts["peak_memory"])


def _features(config: Config, large: Measured, whole: RunSize, workers: Mapping[str, int]) -> Iterator[Forecast]:
    """Forecast the features that the share run has computed: each is a pass, and the influence a solve before it."""
    for stage in FEATURE_NAMES:
        if stage not in large.facts:
            continue
        if stage == REFERENCE_INFLUENCE:
            yield _influence(config, large, whole, workers[stage], stage)
            continue
        facts = large.facts[stage]
        fixed = large.seconds[stage] - facts["busy_seconds"] / facts["workers"]
        work = facts["busy_seconds"] * whole.samples / max(1, large.scale.samples) / workers[stage]
        yield Forecast(stage, max(0.0, fixed), work, f"{whole.samples:,} samples", facts["peak_memory"])


def _effort(config: Config, large: Measured, whole: RunSize, workers: int) -> Forecast:
    facts = cast(EffortFacts, large.facts["effort"])
    candidates = config.effort.candidates
    prompts = whole.samples if candidates == "all" else round(candidates * whole.samples)
    each = facts["busy_seconds"] / max(1, facts["scored"])
    tokens = facts["tokens"] / max(1, facts["scored"])
    fixed = large.seconds["effort"] - facts["busy_seconds"] / facts["workers"]
    basis = f"{prompts:,} prompts of {tokens:.0f} tokens, {tokens / max(each, 1e-9):,.0f}/s a worker"
    return Forecast("effort", max(0.0, fixed), each * prompts / workers, basis, facts["peak_memory"])


def _finetune(config: Config, small: Measured, whole: RunSize) -> Forecast:
    facts, section = cast(FinetuneFacts, small.facts["finetune"]), config.finetune
    samples = coreset_size(config, whole.samples)
    tokens = facts["tokens"] / max(1, facts["epochs"] * facts["samples"]["train"])
    validation = facts["valid_seconds"] / (facts["epochs"] + 1) / max(1, facts["samples"]["valid"])
    valid_users = min(section.valid_users, whole.users)
    work = section.epochs * samples * tokens / facts["tokens_per_second"]
    work += (section.epochs + 1) * valid_users * validation
    # States of frozen layers are computed once a sample, whatever the number of epochs.
    ahead = facts["trunk"]["seconds"] if facts["trunk"] else 0.0
    work += (samples + valid_users) * ahead / max(1, facts["samples"]["train"] + facts["samples"]["valid"])
    fixed = small.seconds["finetune"] - facts["seconds"] - facts["valid_seconds"] - ahead
    basis = f"at most {section.epochs} epochs of {samples:,} samples of {tokens:.0f} tokens"
    basis += f", {facts['tokens_per_second']:,.0f}/s"
    return Forecast("finetune", max(0.0, fixed), work, basis, facts["peak_memory"])


def _evaluate(config: Config, small: Measured, whole: RunSize, workers: int) -> Forecast:
    facts = cast(EvaluateFacts, small.facts["evaluate"])
    users = whole.test_users if config.evaluate.users == "all" else min(config.evaluate.users, whole.test_users)
    title = facts["title_seconds"] / max(1, facts["titles"])
    user = facts["busy_seconds"] / max(1, facts["users"])
    measured = (facts["title_seconds"] + facts["busy_seconds"]) / facts["workers"]
    work = (title * whole.items + user * users) / workers
    basis = f"{users:,} users, {whole.items:,} titles"
    return Forecast("evaluate", max(0.0, small.seconds["evaluate"] - measured), work, basis, int(facts["peak_memory"]))


def total(rows: list[Forecast]) -> TimeTotal:
    """Return the seconds of the whole run and the stage that takes most of them."""
    dominating = max(rows, key=lambda row: row.seconds)
    return {"seconds": sum(row.seconds for row in rows), "dominating": dominating.stage}
