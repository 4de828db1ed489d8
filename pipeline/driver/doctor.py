"""`dealrec doctor`: everything a config needs, looked at without running any of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

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
from pipeline.preflight.resource_plan import describe, plan_rows, resource_plan
from pipeline.stages.stage_list import stage_names_of
from training.llm.memory_needs import memory_for_workers


def diagnose(config: Config, run: Storage, with_config: bool = True) -> tuple[list[Finding], list[dict[str, Any]], str]:
    """What there is and what is lacking by the checks of a run, the workers of each stage, and the cluster in words.

    An embedded Ray is not started: it would have what this machine has. A cluster is connected to, and each of its
    nodes is asked. One that does not answer is a lack of its own, beside those that are known without it.

    Parameters
    ----------
    with_config : False looks at the machine alone.
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
    return found, plan_rows(resource_plan(config, subject.view, subject.stages)[0]), describe(subject.view)


def machine_view(config: Config) -> ClusterView:
    """What an embedded Ray would have here."""
    cluster = config.cluster
    cpus = cluster.cpus or psutil.cpu_count() or 1
    gpus = torch.cuda.device_count() if cluster.gpus == "auto" else cluster.gpus
    return ClusterView((NodeShape(cpus, gpus, memory_for_workers()),))
