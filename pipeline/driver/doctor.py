"""Diagnose a machine or cluster: check everything that a config needs without running any stage."""

from __future__ import annotations

from dataclasses import replace

import psutil
import torch

from cluster.errors import UserError
from cluster.machine_checks import Finding
from cluster.resources import ClusterView
from cluster.shapes import NodeShape
from cluster.storage import Storage
from pipeline.driver.run_directory import session
from pipeline.engine.config import Config
from pipeline.preflight.before_run import CLUSTER_CHECKS, CONFIG_CHECKS, MACHINE_CHECKS
from pipeline.preflight.checks import Subject, findings
from pipeline.preflight.resource_plan import StagePlan, describe, resource_plan
from pipeline.stages.stage_list import stage_names_of
from training.llm.memory_needs import memory_for_workers


def diagnose(config: Config, run: Storage, with_config: bool = True) -> tuple[list[Finding], list[StagePlan], str]:
    """Return the findings of a run's checks, the workers of each stage, and a description of the cluster.

    No embedded Ray is started, since it would have what this machine has. A cluster is connected to and each of its
    nodes asked. A cluster that does not answer is itself a finding, beside those that need no cluster.

    Parameters
    ----------
    with_config : False checks the machine only.
    """
    subject = Subject(config, stage_names_of(config), run)
    found = findings((*(CONFIG_CHECKS if with_config else ()), *MACHINE_CHECKS), subject)
    cluster_checks = [check for check in CLUSTER_CHECKS if with_config or " on nodes" not in check.what]
    if subject.embedded:
        subject = replace(subject, view=machine_view(config))
        found += findings(cluster_checks, subject)
    else:
        from pipeline.stages.worker_pools import cluster_view

        try:
            with session(config):
                subject = replace(subject, view=cluster_view(config))
                found += findings(cluster_checks, subject)
        except UserError as error:
            lack = error.message.rstrip(".")
            return [*found, Finding("cluster", "no answer", lack, error.remedy)], [], "no answer"
    assert subject.view is not None
    return found, resource_plan(config, subject.view, subject.stages)[0], describe(subject.view)


def machine_view(config: Config) -> ClusterView:
    """Return what an embedded Ray would have on this machine."""
    cluster = config.cluster
    cpus = cluster.cpus or psutil.cpu_count() or 1
    gpus = torch.cuda.device_count() if cluster.gpus == "auto" else cluster.gpus
    return ClusterView((NodeShape(cpus, gpus, memory_for_workers()),))
