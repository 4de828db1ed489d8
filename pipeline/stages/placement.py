"""Which hardware a stage's workers are given, from the cluster section and what the cluster has."""

from __future__ import annotations

import torch

from cluster.resources import ClusterView, PoolPlan, plan_pool
from pipeline.config import Config
from training.placement import Placement


def gpus_per_worker(config: Config, view: ClusterView) -> int:
    """GPUs for each worker of an LLM stage: one where the config asks or the cluster has any, else none."""
    if config.cluster.gpus == "auto":
        return min(1, view.gpus)
    return min(1, config.cluster.gpus)


def scoring_pool(config: Config, shards: int) -> PoolPlan:
    """A pool of CPU workers for the surrogate's scores."""
    return plan_pool(ClusterView.now(), shards, config.cluster.actors, gpus=0)


def llm_pool(config: Config, shards: int) -> PoolPlan:
    """A pool for the LLM's forward passes: a GPU a worker where there are GPUs."""
    view = ClusterView.now()
    return plan_pool(view, shards, config.cluster.actors, gpus_per_worker(config, view))


def llm_device() -> str:
    """In a worker: the GPU that Ray gave it, or the CPU on one thread."""
    if torch.cuda.is_available():
        return "cuda"
    torch.set_num_threads(1)
    return "cpu"


def training_placement(config: Config, workers: int) -> Placement:
    """Where training workers run. On CPU they share the cores of an embedded Ray evenly."""
    view = ClusterView.now()
    use_gpu = gpus_per_worker(config, view) > 0
    threads = 1 if use_gpu else max(1, view.cpus // max(1, view.nodes) // workers)
    return Placement(use_gpu=use_gpu, threads=threads)
