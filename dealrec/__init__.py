"""dealrec: prune a recommendation log to the few percent an LLM needs, and tune the LLM on it.

    import dealrec

    run = dealrec.run({"interactions": log, "items": titles}, until="select", run_dir="runs/shop")
    run.coreset().to_pandas()

The names below are all that a user needs to import. Each is loaded when it is first used, so that the import itself
takes no time.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.errors import UserError
    from cluster.job_facts import Job
    from pipeline import __version__
    from pipeline.api.audit_result import Audit
    from pipeline.api.auditing import audit
    from pipeline.api.comparing import compare
    from pipeline.api.comparison_result import Comparison
    from pipeline.api.describing import schema
    from pipeline.api.diagnosing import Diagnosis, doctor
    from pipeline.api.exporting import Export, export
    from pipeline.api.gate import Gate
    from pipeline.api.job_calls import JobLog, jobs, logs, stop
    from pipeline.api.planning import Plan, plan
    from pipeline.api.recommending import Recommendations, recommend
    from pipeline.api.run_result import Run, load_run
    from pipeline.api.running import run
    from pipeline.api.submitting import SubmittedJob, submit
    from pipeline.engine.config import Config
    from scoring.batching import HistoryBatch, SequenceBatch
    from scoring.losses import OutputLoss, SoftmaxLoss
    from scoring.selectors.base import LogView, Selector
    from scoring.selectors.score_shard import ScoreShard
    from scoring.selectors.selector_settings import SelectorSettings
    from scoring.surrogate_model import Surrogate

__all__ = [
    "Audit",
    "Comparison",
    "Config",
    "Diagnosis",
    "Export",
    "Gate",
    "HistoryBatch",
    "Job",
    "JobLog",
    "LogView",
    "OutputLoss",
    "Plan",
    "Recommendations",
    "Run",
    "ScoreShard",
    "Selector",
    "SelectorSettings",
    "SequenceBatch",
    "SoftmaxLoss",
    "SubmittedJob",
    "Surrogate",
    "UserError",
    "__version__",
    "audit",
    "compare",
    "doctor",
    "export",
    "jobs",
    "load_run",
    "logs",
    "plan",
    "recommend",
    "run",
    "schema",
    "stop",
    "submit",
]

#: The module that each name comes from.
_MODULES = {
    "Audit": "pipeline.api.audit_result",
    "Comparison": "pipeline.api.comparison_result",
    "Config": "pipeline.engine.config",
    "Diagnosis": "pipeline.api.diagnosing",
    "Export": "pipeline.api.exporting",
    "Gate": "pipeline.api.gate",
    "HistoryBatch": "scoring.batching",
    "Job": "cluster.job_facts",
    "JobLog": "pipeline.api.job_calls",
    "LogView": "scoring.selectors.base",
    "OutputLoss": "scoring.losses",
    "Plan": "pipeline.api.planning",
    "Recommendations": "pipeline.api.recommending",
    "Run": "pipeline.api.run_result",
    "ScoreShard": "scoring.selectors.score_shard",
    "Selector": "scoring.selectors.base",
    "SelectorSettings": "scoring.selectors.selector_settings",
    "SequenceBatch": "scoring.batching",
    "SoftmaxLoss": "scoring.losses",
    "SubmittedJob": "pipeline.api.submitting",
    "Surrogate": "scoring.surrogate_model",
    "UserError": "cluster.errors",
    "__version__": "pipeline",
    "audit": "pipeline.api.auditing",
    "compare": "pipeline.api.comparing",
    "doctor": "pipeline.api.diagnosing",
    "export": "pipeline.api.exporting",
    "jobs": "pipeline.api.job_calls",
    "load_run": "pipeline.api.run_result",
    "logs": "pipeline.api.job_calls",
    "plan": "pipeline.api.planning",
    "recommend": "pipeline.api.recommending",
    "run": "pipeline.api.running",
    "schema": "pipeline.api.describing",
    "stop": "pipeline.api.job_calls",
    "submit": "pipeline.api.submitting",
}
#: The packages that these modules lie in. Their names are common, so files of the user's may have them.
_PACKAGES = ("cluster", "pipeline", "scoring", "training")


def _refuse_shadows() -> None:
    """Raise `ImportError` where a file of the user's would be imported in place of one of our packages."""
    for name in _PACKAGES:
        found = _origin(name)
        if found is None:
            raise ImportError(f"dealrec is not installed whole: its package {name} is missing. Install it again.")
        if Path(found).resolve() != Path(__file__).resolve().parent.parent / name:
            raise ImportError(
                f"dealrec cannot be used beside {found}, which is imported in place of its package {name}. "
                "Rename that file or folder, or start Python elsewhere."
            )


def _origin(name: str) -> str | None:
    """Return the folder or file that `import NAME` gives, or has given; None if there is none."""
    loaded = sys.modules.get(name)
    spec = importlib.util.find_spec(name) if loaded is None else getattr(loaded, "__spec__", None)
    file = getattr(loaded, "__file__", None) or (None if spec is None else spec.origin)
    if file is None:
        # A folder without `__init__.py`.
        return next(iter(getattr(spec, "submodule_search_locations", None) or ()), None)
    return str(Path(file).parent) if Path(file).name == "__init__.py" else str(file)


_refuse_shadows()


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'dealrec' has no attribute {name!r}")
    from pipeline.api.quiet_imports import quiet_imports

    with quiet_imports():
        value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
