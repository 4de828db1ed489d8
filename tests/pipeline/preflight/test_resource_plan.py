from __future__ import annotations

from pathlib import Path
from typing import Any

from cluster.resources import ClusterView
from cluster.shapes import NodeShape
from pipeline.engine.config import Config
from pipeline.preflight.resource_plan import StagePlan, describe, resource_plan
from pipeline.stages.stage_list import STAGE_NAMES

#: As our manifests make it: a head without CPUs, pods with GPUs, and CPU pods that are still to come.
HEAD, GPU_NODE, CPU_NODE = NodeShape(0, 0, 16 << 30), NodeShape(16, 4, 128 << 30), NodeShape(8, 0, 32 << 30)
VIEW = ClusterView((HEAD, GPU_NODE, GPU_NODE), (CPU_NODE,) * 16)


def plan(view: ClusterView, **sections: Any) -> tuple[dict[str, StagePlan], list[str]]:
    config = Config.model_validate({"data": {"interactions": "-"}, **sections})
    plans, lacks = resource_plan(config, view, STAGE_NAMES)
    return {each.stage: each for each in plans}, [finding.what for finding in lacks]


def test_each_stage_gets_what_suits_it() -> None:
    plans, lacks = plan(VIEW, finetune={"workers": 8})
    assert lacks == []
    assert (plans["influence"].now, plans["influence"].workers, plans["influence"].per_node) == (32, 160, 16)
    assert (plans["effort"].now, plans["effort"].workers, plans["effort"].gpus) == (8, 8, 1)
    assert plans["effort"].free_cpus == 152
    assert (plans["finetune"].kind, plans["finetune"].per_node) == ("training", 4)


def test_a_cluster_that_starts_from_nothing_has_a_plan_and_nobody_yet() -> None:
    plans, lacks = plan(ClusterView((HEAD,), (CPU_NODE,) * 2), cluster={"gpus": 0})
    assert lacks == []
    assert {stage: (each.now, each.workers) for stage, each in plans.items()} == {
        "ingest": (0, 16),
        "surrogate": (0, 1),
        "influence": (0, 16),
        "effort": (0, 16),
        "finetune": (0, 1),
        "evaluate": (0, 16),
    }


def test_every_stage_that_can_never_run_is_named() -> None:
    assert plan(ClusterView((HEAD,)))[1] == [
        f"workers of {stage}" for stage in ("ingest", "surrogate", "influence", "effort", "finetune", "evaluate")
    ]
    assert plan(VIEW, cluster={"gpus": 9})[1] == ["workers of effort", "workers of evaluate"]
    assert plan(VIEW, finetune={"workers": 9})[1] == ["workers of finetune"]


def test_no_more_gpus_than_asked_for() -> None:
    assert plan(VIEW, cluster={"gpus": 2})[0]["effort"].workers == 2


def test_an_llm_needs_memory_beside_cpus(tmp_path: Path) -> None:
    with (tmp_path / "model.safetensors").open("wb") as weights:
        weights.truncate(8 << 30)
    sections = {"llm": {"model": str(tmp_path)}, "cluster": {"gpus": 0}}
    view = ClusterView((NodeShape(8, 0, 16 << 30),))
    plans, lacks = plan(view, **sections)
    assert lacks == []
    assert (plans["influence"].workers, plans["effort"].workers) == (8, 1)
    assert plans["effort"].memory > 8 > plans["influence"].memory
    assert plan(view, finetune={"workers": 2}, **sections)[1] == ["workers of finetune"]


def test_a_cluster_in_words() -> None:
    assert describe(VIEW) == (
        "3 nodes, 32 CPUs, 8 GPUs (2 of 16 CPUs and 4 GPUs, 1 of 0 CPUs and 0 GPUs); "
        "may add 16 nodes, 128 CPUs, 0 GPUs (16 of 8 CPUs and 0 GPUs)"
    )
    assert describe(ClusterView((NodeShape(8, 1),))) == "1 node, 8 CPUs, 1 GPUs"
