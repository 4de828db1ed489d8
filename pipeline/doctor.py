"""`dealrec doctor`: everything a config needs, looked at without running any of it."""

from __future__ import annotations

from typing import Any

import psutil
import torch

from cluster.errors import UserError
from cluster.preflight import Finding, check_writable
from cluster.resources import ClusterView
from cluster.session import is_embedded
from cluster.shapes import NodeShape
from cluster.storage import Storage
from pipeline.config import Config
from pipeline.preflight import cluster_findings, machine_findings
from pipeline.resource_plan import describe, plan_rows, resource_plan
from pipeline.run import session
from pipeline.stages.catalogue import stage_names_of

#: The share of the free memory that Ray keeps for its object store; workers are given the rest.
_OBJECT_STORE = 0.3


def diagnose(config: Config, run: Storage) -> tuple[list[Finding], list[dict[str, Any]], str]:
    """What there is and what is lacking, the workers of each stage, and the cluster in words.

    An embedded Ray is not started: it would have what this machine has. A cluster is connected to, and each of its
    nodes is asked. One that does not answer is a lack of its own, beside those that are known without it.
    """
    stages = stage_names_of(config)
    found = machine_findings(config, stages)
    if is_embedded(config.cluster.address):
        found.append(check_writable(run))
        view = machine_view(config)
    else:
        from pipeline.stages.placement import cluster_view

        try:
            with session(config):
                view = cluster_view(config)
                found += cluster_findings(config, stages, view, run)
        except UserError as error:
            lack = error.message.rstrip(".")
            return [*found, Finding("cluster", "no answer", lack, error.remedy)], [], "no answer"
    plans, lacks = resource_plan(config, view, stages)
    return [*found, *lacks], plan_rows(plans), describe(view)


def machine_view(config: Config) -> ClusterView:
    """What an embedded Ray would have here."""
    cluster = config.cluster
    cpus = cluster.cpus or psutil.cpu_count() or 1
    gpus = torch.cuda.device_count() if cluster.gpus == "auto" else cluster.gpus
    memory = int(psutil.virtual_memory().available * (1 - _OBJECT_STORE))
    return ClusterView((NodeShape(cpus, gpus, memory),))
