"""Audit the influence scores of a run."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pipeline.api.audit_result import Audit
from pipeline.api.calls import api_call
from pipeline.api.config_sources import Source, opened_task
from pipeline.driver.run_directory import RunOptions, run_stages
from pipeline.studies.audit.audit_rows import RESULT
from pipeline.studies.audit.audit_stages import AUDIT, AUDIT_STAGES


def audit(
    source: Source,
    *,
    run_dir: str | os.PathLike[str] | None = None,
    from_: str | None = None,
    fresh: bool = False,
    overrides: Sequence[str] = (),
    progress: bool | None = None,
    **sections: object,
) -> Audit:
    """Retrain the surrogate without samples, and tell how well influence scores predict what that does.

    Parameters
    ----------
    source, run_dir, overrides, progress, sections : as for `dealrec.run`; the section `audit` says what is tried.
    from_ : a stage of the audit to recompute, with all that depends on it.
    fresh : recompute everything, the run's surrogate included.

    Raises `UserError` as `dealrec.run` does.

    Examples
    --------
    >>> found = dealrec.audit("shop.yaml", audit={"subsets": 8})  # doctest: +SKIP
    >>> found.recommended  # doctest: +SKIP
    'influence: {solver: ekfac, scope: ["last_layer"], damping: 0.001}'
    """
    with api_call(progress), opened_task(source, run_dir, overrides, sections) as task:
        graph = run_stages(task.config, task.run, RunOptions(first=from_, fresh=fresh), AUDIT_STAGES)
        return Audit(graph.folder(AUDIT).read_json(RESULT))
