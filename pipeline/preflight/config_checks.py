"""What is wrong with a configuration by itself, the LLM apart: told in seconds, before Ray starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.preflight.checks import Subject
from pipeline.stages.selection_needs import SASREC_FEATURES, SelectionNeeds

if TYPE_CHECKING:
    from scoring.surrogate import Surrogate

#: Of a surrogate that is built to be looked at.
_FEW_ITEMS = 100


def check_inputs(subject: Subject) -> str:
    """The files of the log and of the catalogue have the columns they need; the driver reads their headers anyway."""
    from pipeline.ingest.files.headers import read_headers
    from pipeline.ingest.files.sources import find_files
    from pipeline.ingest.split_files import settle_split
    from pipeline.ingest.values.columns import resolve_catalogue, resolve_log
    from pipeline.stages.ingest_stage import ingest_spec

    spec = ingest_spec(subject.config)
    files = find_files(spec.interactions, "data.interactions", skip_suffix=".item")
    spec, headers = settle_split(spec, read_headers(files))
    columns = ", ".join(f"{role} '{column}'" for role, column in resolve_log(headers, spec).items())
    found = f"{len(files):,} file{'s' if len(files) != 1 else ''} of interactions, {columns}"
    if spec.items is None:
        return found
    files = find_files(spec.items, "data.items", skip_suffix=".inter")
    resolve_catalogue(read_headers(files), spec)
    return f"{found}; {len(files):,} of the catalogue"


def check_surrogate(subject: Subject) -> str:
    """A surrogate of these settings can be built."""
    model = small_surrogate(subject.config)
    if model is None:
        return f"{subject.config.surrogate.model}, importable here"
    return f"{subject.config.surrogate.model}, its scopes {', '.join(model.scopes())}"


def check_influence(subject: Subject) -> str:
    """The solver can work with the scope."""
    section = subject.config.influence
    check_scope(subject.config, "influence.scope", section.scope, (section.solver,))
    return f"solver {section.solver}, scope {_named(section.scope)}"


def check_audit(subject: Subject) -> str:
    """All scopes of the audit are there."""
    scopes = subject.config.audit.scopes or ()
    for scope in scopes:
        # What a solver cannot do with a scope is told in the audit's table.
        check_scope(subject.config, "audit.scopes", (scope,), ())
    return f"scopes {_named(scopes)}"


def _named(scopes: Sequence[str] | None) -> str:
    return ", ".join(scopes or ("default",))


def check_scope(
    config: Config, key: str, patterns: Sequence[str] | None, solvers: Sequence[str], items: int = _FEW_ITEMS
) -> None:
    """Raise `UserError` when the surrogate of so many items has no such scope, or a solver cannot work with it."""
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
            f"The surrogate's scopes are {', '.join(model.scopes())}; patterns of parameter names go as well.",
        ) from error


def small_surrogate(config: Config, items: int = _FEW_ITEMS) -> Surrogate | None:
    """The configured surrogate of a few items: what is wrong with its settings shows in it.

    None for one of the user's own, which may insist on the real catalogue; it must be there, though.
    """
    from pipeline.stages.surrogate_stage import network_settings
    from scoring.exceptions import SettingError
    from scoring.surrogate import build_surrogate, surrogate_builder

    model = config.surrogate.model
    try:
        if ":" in model:
            surrogate_builder(model)
            return None
        return build_surrogate(model, items, network_settings(config))
    except SettingError as error:
        raise UserError(f"surrogate: {error}.", "Correct the settings of the surrogate.") from error


def require_features(config: Config, needs: SelectionNeeds, data: Storage) -> None:
    """Raise `UserError` for a selector that asks of the surrogate what only the built-in one has.

    One of the user's own is built for that, with the items of an ingested log, as the training does it.
    """
    from pipeline.stages.surrogate_feature_stage import not_sasrec
    from pipeline.stages.surrogate_stage import network_settings
    from scoring.exceptions import SettingError
    from scoring.sasrec import SASRec
    from scoring.surrogate import build_surrogate

    model = config.surrogate.model
    wanted = [name for name in SASREC_FEATURES if name in needs.feature_stages]
    if not wanted or ":" not in model:
        return
    counts = data.read_table("items.parquet", ["count"]).column("count").to_numpy()
    try:
        built = build_surrogate(model, len(counts), network_settings(config), torch.from_numpy(counts.copy()))
    except SettingError as error:
        raise UserError(f"surrogate: {error}.", "Correct the settings of the surrogate.") from error
    if not isinstance(built, SASRec):
        raise not_sasrec(wanted[0])


def check_tuning(subject: Subject) -> str:
    """The settings of the fine-tuning go together."""
    config = subject.config
    config.finetune.check()
    workers = config.finetune.workers
    return f"ZeRO {config.finetune.zero}, {workers} worker{'s' if workers != 1 else ''}, {config.llm.dtype}"
