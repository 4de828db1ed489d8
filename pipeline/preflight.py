"""What a run needs, checked before anything runs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cluster.errors import UserError
from cluster.nodes import NodeFacts, inspect_nodes, own_versions
from cluster.preflight import (
    Finding,
    check_gpus,
    check_memory,
    check_nodes_memory,
    check_versions,
    check_writable,
    require,
)
from cluster.resources import ClusterView
from cluster.session import is_embedded
from cluster.storage import Storage
from pipeline.config import Config
from pipeline.feasible import check_settings
from pipeline.stages.catalogue import LLM_STAGES
from training.native_op import compiler_error, compiler_missing

_LEAST_MEMORY = 2 * 2**30


def machine_findings(config: Config, stages: Sequence[str]) -> list[Finding]:
    """Everything that the stages need of this machine, lacking or not; on a cluster the nodes matter instead."""
    result = [check_memory(_LEAST_MEMORY)]
    if not is_embedded(config.cluster.address):
        return result
    if LLM_STAGES & set(stages):
        result.append(check_gpus(config.cluster.gpus, True))
    on_gpus = config.cluster.gpus != 0 and torch.cuda.device_count() > 0
    if "finetune" in stages and not on_gpus:
        result.append(_check_compiler())
    return result


def cluster_findings(config: Config, stages: Sequence[str], view: ClusterView, run: Storage) -> list[Finding]:
    """What the connected cluster's living nodes offer, and whether they share the run's storage; one must write there.

    Raises `UserError` for a node that does not answer.
    """
    nodes = inspect_nodes()
    result = [check_nodes_memory(nodes, _LEAST_MEMORY)]
    result.append(check_versions(nodes, own_versions()))
    if "finetune" in stages:
        result += _check_programs(nodes, on_gpus=bool(config.cluster.gpus) and view.gpus > 0)
    result.append(_check_shared(run) if len(nodes) > 1 else check_writable(run))
    return result


def check_before_run(config: Config, stages: Sequence[str]) -> None:
    """Raise `UserError` for values that cannot be and for every lack of this machine, in seconds, before Ray starts."""
    check_settings(config, stages)
    require(machine_findings(config, stages))


def check_cluster(config: Config, stages: Sequence[str], run: Storage) -> None:
    """Refuse what the connected Ray can never do, before the stages that come first.

    Raises `UserError` that names every lack: workers that no node, living or to come, has room for; nodes without a
    compiler, with too little memory or of other versions; storage that is not shared.
    """
    from pipeline.resource_plan import resource_plan
    from pipeline.stages.placement import cluster_view

    view = cluster_view(config)
    lacks = resource_plan(config, view, stages)[1]
    if not is_embedded(config.cluster.address):
        lacks = [*lacks, *cluster_findings(config, stages, view, run)]
    require(lacks)


def _check_compiler() -> Finding:
    """The compiler that fine-tuning on CPU needs; ninja comes with the packages."""
    missing = compiler_missing()
    if missing is None:
        return Finding("compiler", "a C++ compiler")
    lack, remedy = compiler_error(missing, "this machine")
    return Finding("compiler", "none", lack.rstrip("."), remedy)


def _check_programs(nodes: Sequence[NodeFacts], on_gpus: bool) -> list[Finding]:
    """The compiler where DeepSpeed builds its CPU operator, the toolkit where it would build CUDA ones."""
    if on_gpus:
        having = [node for node in nodes if node.gpus and "nvcc" in node.programs]
        gpu_nodes = sum(1 for node in nodes if node.gpus)
        # Not a lack, as far as is known without a GPU: the optimizer and the collectives come compiled with torch.
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


def _check_shared(run: Storage) -> Finding:
    from cluster.nodes import unshared
    from pipeline.stages.placement import not_shared

    try:
        lacking = unshared(run)
    except UserError as error:
        return Finding("storage", run.uri, error.message.rstrip("."), error.remedy)
    if not lacking:
        return Finding("storage", f"{run.uri}, shared by all nodes")
    lack, remedy = not_shared(run, lacking)
    return Finding("storage", run.uri, lack.rstrip("."), remedy)
