"""Check a configuration by itself, apart from the LLM, in seconds, before Ray starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.engine.config import BEAMS, Config
from pipeline.engine.wording import counted
from pipeline.preflight.checks import Subject
from pipeline.stages.selection_needs import SASREC_FEATURES, SelectionNeeds

if TYPE_CHECKING:
    from scoring.surrogate import Surrogate

#: The number of items of a surrogate that is only built to be checked.
_FEW_ITEMS = 100


def check_inputs(subject: Subject) -> str:
    """Check that the files of log and catalogue have the columns they need; the driver reads the headers anyway."""
    from pipeline.ingest.files.headers import read_headers
    from pipeline.ingest.files.sources import find_files
    from pipeline.ingest.split_files import settle_split
    from pipeline.ingest.values.columns import resolve_catalogue, resolve_log
    from pipeline.stages.ingest_stage import ingest_spec

    spec = ingest_spec(subject.config)
    files = find_files(spec.interactions, "data.interactions", skip_suffix=".item")
    spec, headers = settle_split(spec, read_headers(files))
    columns = ", ".join(f"{role} '{column}'" for role, column in resolve_log(headers, spec).items())
    found = f"{counted(len(files), 'file')} of interactions, {columns}"
    if spec.items is None:
        return found
    files = find_files(spec.items, "data.items", skip_suffix=".inter")
    resolve_catalogue(read_headers(files), spec)
    return f"{found}; {len(files):,} of the catalogue"


def check_surrogate(subject: Subject) -> str:
    """Check that a surrogate with these settings can be built."""
    model = small_surrogate(subject.config)
    if model is None:
        return f"{subject.config.surrogate.model}, importable here"
    return f"{subject.config.surrogate.model} with scopes {', '.join(model.scopes())}"


def check_influence(subject: Subject) -> str:
    """Check that the solver works with the scope."""
    section = subject.config.influence
    check_scope(subject.config, "influence.scope", section.scope, (section.solver,))
    return f"solver {section.solver}, scope {_named(section.scope)}"


def check_audit(subject: Subject) -> str:
    """Check that all scopes of the audit exist."""
    scopes = subject.config.audit.scopes or ()
    for scope in scopes:
        # The audit's table reports what a solver cannot do with a scope.
        check_scope(subject.config, "audit.scopes", (scope,), ())
    return f"scopes {_named(scopes)}"


def _named(scopes: Sequence[str] | None) -> str:
    return ", ".join(scopes or ("default",))


def check_scope(
    config: Config, key: str, patterns: Sequence[str] | None, solvers: Sequence[str], items: int = _FEW_ITEMS
) -> None:
    """Raise `UserError` if the surrogate of so many items has no such scope, or a solver cannot use it."""
    from scoring.exceptions import ScoringError
    from scoring.influence import check_exact, linear_layers
    from scoring.objective import reduce_to_scope
    from scoring.surrogate import surrogate_scope

    model = small_surrogate(config, items)
    if model is None:
        return
    try:
        scope = surrogate_scope(model, patterns)
        if "exact" in solvers:
            check_exact(scope)
        if "ekfac" in solvers:
            linear_layers(reduce_to_scope(model, scope), scope)
    except ScoringError as error:
        raise UserError(
            f"{key}: {error}.",
            f"Use one of the surrogate's scopes ({', '.join(model.scopes())}) or patterns of parameter names.",
        ) from error


def small_surrogate(config: Config, items: int = _FEW_ITEMS) -> Surrogate | None:
    """Build the configured surrogate with a few items, to reveal faults in its settings.

    Return None for a custom surrogate, which may insist on the real catalogue; its module must exist, though.
    """
    from scoring.exceptions import SettingError
    from scoring.surrogate import build_surrogate, surrogate_builder

    model = config.surrogate.model
    try:
        if ":" in model:
            surrogate_builder(model)
            return None
        return build_surrogate(model, items, config.surrogate.network(config.samples.max_history))
    except SettingError as error:
        raise UserError(f"surrogate: {error}.", "Correct the settings of the surrogate.") from error


def require_features(config: Config, needs: SelectionNeeds, data: Storage) -> None:
    """Raise `UserError` if a selector needs features of the surrogate that only the built-in one has.

    A custom surrogate is built to find out, with the items of an ingested log, as in training.
    """
    from pipeline.stages.surrogate_feature_stage import not_sasrec
    from scoring.exceptions import SettingError
    from scoring.sasrec import SASRec
    from scoring.surrogate import build_surrogate

    model = config.surrogate.model
    wanted = [name for name in SASREC_FEATURES if name in needs.feature_stages]
    if not wanted or ":" not in model:
        return
    counts = data.read_table("items.parquet", ["count"]).column("count").to_numpy()
    try:
        built = build_surrogate(
            model, len(counts), config.surrogate.network(config.samples.max_history), torch.from_numpy(counts.copy())
        )
    except SettingError as error:
        raise UserError(f"surrogate: {error}.", "Correct the settings of the surrogate.") from error
    if not isinstance(built, SASRec):
        raise not_sasrec(wanted[0])


def check_decoding(subject: Subject) -> str:
    """Check that what decodes titles is compatible, as far as it is known without the catalogue."""
    section = subject.config.evaluate
    if section.decoding == "free" and section.prior_correction:
        raise UserError(
            f"evaluate.prior_correction is {section.prior_correction:g}, but free decoding generates texts, which have "
            "no probability without a history.",
            "Set evaluate.decoding to constrained or likelihood, or leave out evaluate.prior_correction.",
        )
    beams = "" if section.decoding == "likelihood" else f", {counted(section.beams, 'beam')}"
    return f"{section.decoding}{beams}"


def require_decoding(config: Config, titles: int) -> None:
    """Raise `UserError` if a catalogue of so many different titles is too large or too small for the decoding."""
    section = config.evaluate
    if section.decoding == "likelihood" and titles > section.likelihood_titles:
        raise UserError(
            f"evaluate.decoding is likelihood, which reads every title for every user. The catalogue has {titles:,} "
            f"titles, and evaluate.likelihood_titles allows {section.likelihood_titles:,}.",
            f"Set evaluate.decoding to constrained, or evaluate.likelihood_titles to {titles} or more.",
        )
    if section.decoding == "constrained" and section.beams > max(titles, BEAMS["constrained"]):
        raise UserError(
            f"evaluate.beams is {section.beams}, but the catalogue has {counted(titles, 'title')} to find.",
            "Lower evaluate.beams, or set evaluate.decoding to likelihood, which ranks all titles.",
        )


def check_tuning(subject: Subject) -> str:
    """Check that the settings of fine-tuning are compatible."""
    config = subject.config
    config.finetune.check()
    workers = config.finetune.workers
    return f"ZeRO {config.finetune.zero}, {counted(workers, 'worker')}, {config.llm.dtype}"
