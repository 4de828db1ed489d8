"""The scopes that an audit tries, by the names of the surrogate that was trained."""

from __future__ import annotations

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.engine.config import AuditConfig
from scoring.exceptions import ScopeError
from scoring.surrogate import build_surrogate, surrogate_scope


def audit_scopes(audit: AuditConfig, surrogate: Storage) -> tuple[str, ...]:
    """Those asked for, or the surrogate's default.

    Raises `UserError` for one that names no parameter: of a surrogate of the user's own it is found here first.
    """
    metrics = surrogate.read_json("metrics.json")
    model = build_surrogate(metrics["surrogate"], metrics["item_count"], metrics["config"])
    named = model.scopes()
    scopes = audit.scopes or (next(iter(named)),)
    try:
        for scope in scopes:
            surrogate_scope(model, (scope,))
    except ScopeError as error:
        raise UserError(
            f"audit.scopes: {error}.",
            f"The surrogate's scopes are {', '.join(named)}; patterns of parameter names go as well.",
        ) from error
    return scopes
