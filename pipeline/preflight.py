"""What a run needs, checked before anything runs."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.preflight import Finding, check_gpus, check_memory, require
from pipeline.config import Config
from training.native_op import compiler_error, compiler_missing

_LLM_STAGES = {"effort", "finetune", "evaluate"}
_LEAST_MEMORY = 2 * 2**30


def findings(config: Config, stages: Sequence[str]) -> list[Finding]:
    """Everything that the stages need of this machine, lacking or not."""
    embedded = config.cluster.address in (None, "local")
    result = [check_memory(_LEAST_MEMORY)]
    if _LLM_STAGES & set(stages):
        result.append(check_gpus(config.cluster.gpus, embedded))
    if "finetune" in stages and embedded:
        result.append(_check_compiler())
    return result


def check_before_run(config: Config, stages: Sequence[str]) -> None:
    """Raise `UserError` that names every lack, in seconds, before Ray starts."""
    require(findings(config, stages))


def check_cluster(config: Config, stages: Sequence[str]) -> None:
    """Refuse training workers that the connected Ray can never schedule, before the stages that come first.

    Raises `UserError` naming the key.
    """
    from pipeline.stages.placement import training_placement
    from training.placement import require_resources

    for name, workers in (("surrogate", config.surrogate.workers), ("finetune", config.finetune.workers)):
        if name in stages:
            require_resources(name, workers, training_placement(config, workers))


def _check_compiler() -> Finding:
    """The compiler that fine-tuning on CPU needs; ninja comes with the packages."""
    missing = compiler_missing()
    if missing is None:
        return Finding("compiler", "a C++ compiler")
    lack, remedy = compiler_error(missing, "this machine")
    return Finding("compiler", "none", lack.rstrip("."), remedy)
