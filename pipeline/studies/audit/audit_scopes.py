"""Resolve the scopes that an audit tries, by the names of the trained surrogate."""

from __future__ import annotations

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.engine.config import AuditConfig
from scoring.exceptions import ScopeError
from scoring.surrogate import build_surrogate, surrogate_scope
from training.loops.training_records import surrogate_metrics


def audit_scopes(audit: AuditConfig, surrogate: Storage) -> tuple[str, ...]:
    """Return the scopes asked for, or the surrogate's default.

    Raises `UserError` for a scope that names no parameter; for a custom surrogate, this is the first check.
    """
    metrics = surrogate_metrics(surrogate)
    model = build_surrogate(metrics["surrogate"], metrics["item_count"], metrics["config"])
    named = model.scopes()
    scopes = audit.scopes or (next(iter(named)),)
    try:
        for scope in scopes:
            surrogate_scope(model, (scope,))
    except ScopeError as error:
        raise UserError(
            f"audit.scopes: {error}.",
            f"Use the surrogate's scopes ({', '.join(named)}) or patterns of parameter names.",
        ) from error
    return scopes
