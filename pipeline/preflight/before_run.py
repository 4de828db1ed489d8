"""Check what a run needs before its first stage: one list, for `run` and for `doctor`.

Limits of the log itself are checked as soon as it is read, by `pipeline.driver.execute.check_log`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from cluster.errors import UserError
from cluster.machine_checks import (
    Finding,
    check_gpus,
    check_memory,
    check_nodes_memory,
    check_versions,
    check_writable,
    require,
)
from cluster.nodes import own_versions
from cluster.storage import Storage
from pipeline.engine.config import Config, SelectConfig
from pipeline.preflight import config_checks, llm_checks, node_files
from pipeline.preflight.checks import Check, Subject, findings
from pipeline.preflight.resource_plan import describe, resource_plan
from pipeline.stages.selection_needs import FEATURE_NAMES, REFERENCE_INFLUENCE
from pipeline.stages.stage_list import LLM_STAGES, TITLE_EMBEDDINGS, UNTUNED_NAME
from pipeline.tracking.known_trackers import require_trackers
from training.llm.memory_needs import LEAST_FREE, free_memory
from training.loops.native_op import cache_folder, compiler_error, compiler_missing, computes_in_half

_TUNING = frozenset({"finetune"})
_RANKS = frozenset({"evaluate", UNTUNED_NAME})
_SOLVES = frozenset({"influence", REFERENCE_INFLUENCE})


def _measures_titles(subject: Subject) -> bool:
    """Return whether a stage needs the LLM's tokenizer; ingest needs it to leave out long titles."""
    drops = "ingest" in subject.stages and subject.config.llm.long_titles == "drop"
    return drops or bool(LLM_STAGES & set(subject.stages))


def _embedded(subject: Subject) -> bool:
    return subject.embedded


def _tunes_on_cpu(subject: Subject) -> bool:
    """Return whether an embedded Ray fine-tunes on this machine's CPUs, as far as is known."""
    return subject.embedded and (subject.config.cluster.gpus == 0 or torch.cuda.device_count() == 0)


def _has_run(subject: Subject) -> bool:
    return subject.embedded and subject.run is not None


def _keeps_states(subject: Subject) -> bool:
    return subject.run is not None and subject.embedded and subject.config.finetune.layers != "all"


def _own_surrogate(subject: Subject) -> bool:
    return ":" in subject.config.surrogate.model


#: Checks of the configuration, in seconds, without Ray.
CONFIG_CHECKS = (
    Check("trackers", lambda s: require_trackers(s.config.track), where=lambda s: bool(s.config.track)),
    Check("log", config_checks.check_inputs, frozenset({"ingest"})),
    Check("surrogate", config_checks.check_surrogate, frozenset({"surrogate", "influence", "audit", *FEATURE_NAMES})),
    Check("influence", config_checks.check_influence, _SOLVES, after=("surrogate",)),
    Check("audit", config_checks.check_audit, frozenset({"audit"}), after=("surrogate",)),
    Check("fine-tuning", config_checks.check_tuning, _TUNING),
    Check("decoding", config_checks.check_decoding, _RANKS),
    Check("template", llm_checks.check_template, where=_measures_titles),
    Check("LLM files", llm_checks.check_files, where=_measures_titles),
    Check("tokenizer", llm_checks.check_tokenizer, where=_measures_titles, after=("LLM files",)),
    Check("prompt", llm_checks.check_prompt, where=_measures_titles, after=("template", "tokenizer")),
    Check("LLM length", llm_checks.check_length, LLM_STAGES, after=("tokenizer",)),
    Check(
        "LLM structure",
        llm_checks.check_structure,
        LLM_STAGES - {TITLE_EMBEDDINGS},
        after=("tokenizer", "LLM length", "fine-tuning"),
    ),
)

#: Checks of this machine, without Ray.
MACHINE_CHECKS = (
    Check("memory", lambda subject: check_memory(free_memory(), LEAST_FREE)),
    Check("GPU", lambda subject: check_gpus(subject.config.cluster.gpus, True), LLM_STAGES, _embedded),
    Check("compiler", lambda subject: _check_compiler(), _TUNING, _tunes_on_cpu),
    Check("half precision", lambda subject: _check_half(subject.config), _TUNING, _tunes_on_cpu),
    Check("storage", lambda subject: _check_writable(subject), where=_has_run),
    Check("disk for states", lambda subject: _check_states(subject), _TUNING, _keeps_states),
)

#: Checks of what Ray has; nodes are only asked on a cluster.
CLUSTER_CHECKS = (
    Check("workers", lambda subject: _check_workers(subject)),
    Check("memory", lambda subject: check_nodes_memory(subject.nodes, LEAST_FREE), where=lambda s: not s.embedded),
    Check("versions", lambda subject: check_versions(subject.nodes, own_versions()), where=lambda s: not s.embedded),
    Check("compiler", lambda subject: _check_programs(subject), _TUNING, lambda s: not s.embedded),
    Check("storage", lambda subject: _check_shared(subject), where=lambda s: not s.embedded),
    Check("log on nodes", node_files.check_log_files, frozenset({"ingest"}), lambda s: not s.embedded),
    Check("LLM on nodes", node_files.check_llm_files, LLM_STAGES, lambda s: not s.embedded),
    Check(
        "surrogate on nodes",
        node_files.check_own_surrogate,
        frozenset({"surrogate", "influence", *FEATURE_NAMES, "evaluate", "audit", "retrain"}),
        lambda s: not s.embedded and _own_surrogate(s),
    ),
    Check(
        "selector on nodes",
        node_files.check_own_selectors,
        where=lambda s: not s.embedded and bool(node_files.own_selectors(s)),
    ),
)


def check_before_run(config: Config, stages: Sequence[str], run: Storage | None = None) -> None:
    """Check the configuration and this machine in seconds, before Ray starts.

    Raises one `UserError` for all invalid values and everything that this machine lacks.
    """
    require(findings((*CONFIG_CHECKS, *MACHINE_CHECKS), Subject(config, tuple(stages), run)))


def check_cluster(config: Config, stages: Sequence[str], run: Storage, selections: Sequence[SelectConfig] = ()) -> None:
    """Refuse what the connected Ray can never do, before the first stages run.

    Raises `UserError` that names every lack: workers that fit on no present or future node; nodes without a compiler,
    with too little memory or with other versions; storage that is not shared; files that nodes lack.
    """
    from pipeline.stages.worker_pools import cluster_view

    subject = Subject(config, tuple(stages), run, tuple(selections))
    require(findings(CLUSTER_CHECKS, replace(subject, view=cluster_view(config))))


def _check_states(subject: Subject) -> str:
    from pipeline.stages.trunk_home import check_room

    assert subject.run is not None
    return check_room(subject.config, subject.run)


def _check_writable(subject: Subject) -> Finding:
    assert subject.run is not None
    return check_writable(subject.run)


def _check_workers(subject: Subject) -> Sequence[Finding]:
    assert subject.view is not None
    lacks = resource_plan(subject.config, subject.view, subject.stages)[1]
    return lacks or [Finding("workers", describe(subject.view))]


def _check_compiler() -> Finding:
    """Check the compiler that fine-tuning on CPU needs; ninja comes with the packages."""
    missing = compiler_missing()
    if missing is None:
        return Finding("compiler", f"a C++ compiler, building in {cache_folder()}")
    lack, remedy = compiler_error(missing, "this machine")
    return Finding("compiler", "none", lack.rstrip("."), remedy)


def _check_half(config: Config) -> str:
    if config.llm.dtype == "float16" and not computes_in_half():
        raise UserError(
            "llm.dtype is float16, which the processors of this machine do not support.",
            "Set llm.dtype to bfloat16 or float32, or fine-tune on GPUs.",
        )
    return config.llm.dtype


def _check_programs(subject: Subject) -> list[Finding]:
    """Check the compiler for DeepSpeed's CPU operator, or the toolkit for CUDA operators."""
    nodes = subject.nodes
    if node_files.needs_gpu(subject):
        having = [node for node in nodes if node.gpus and "nvcc" in node.programs]
        gpu_nodes = sum(1 for node in nodes if node.gpus)
        # Its absence is not a lack: the optimizer and the collectives come compiled with torch.
        return [
            Finding(
                "CUDA toolkit",
                f"nvcc on {len(having)} of {gpu_nodes} living GPU nodes; fine-tuning builds nothing with it",
            )
        ]
    without = [node.name for node in nodes if not {"c++", "g++"} & set(node.programs)]
    if not without:
        return [Finding("compiler", "a C++ compiler on every node")]
    lack, remedy = compiler_error("g++", f"node {', '.join(without)}")
    return [Finding("compiler", f"none on {len(without)} of {len(nodes)} nodes", lack.rstrip("."), remedy)]


def _check_shared(subject: Subject) -> Finding:
    from cluster.nodes import nodes_not_sharing
    from pipeline.stages.worker_pools import not_shared

    run = subject.run
    assert run is not None
    if len(subject.nodes) < 2:
        return check_writable(run)
    try:
        lacking = nodes_not_sharing(run)
    except UserError as error:
        return Finding("storage", run.uri, error.message.rstrip("."), error.remedy)
    if not lacking:
        return Finding("storage", f"{run.uri}, shared by all nodes")
    lack, remedy = not_shared(run, lacking)
    return Finding("storage", run.uri, lack.rstrip("."), remedy)
