"""What an autoscaler may add to the cluster, as it says itself.

Ray has no public call for the limits of its autoscaler, so they are read where they are kept: in the cluster
configuration that some platforms report to Ray, or, under KubeRay, in the RayCluster that the autoscaler reads.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray

from cluster.shapes import NodeGroup, NodeShape

log = logging.getLogger("dealrec.cluster")

#: Nodes of a group without a limit; more than any run would use.
_UNLIMITED = 1000
_TRIES = 3
_PAUSE_SECONDS = 1.0
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def autoscaler_groups() -> tuple[NodeGroup, ...]:
    """The groups of nodes that the autoscaler of the connected Ray manages; empty where none is known."""
    return reported_groups() or kuberay_groups()


def reported_groups() -> tuple[NodeGroup, ...]:
    """From the cluster configuration in Ray's control store; open-source autoscalers of Ray 2.60 report none."""
    config = ray._private.state.state.get_cluster_config()
    if config is None:
        return ()
    return tuple(
        NodeGroup(_UNLIMITED if group.max_count < 0 else group.max_count, NodeShape.of(group.resources))
        for group in config.node_group_configs
        if group.max_count
    )


def kuberay_groups(pause_seconds: float = _PAUSE_SECONDS) -> tuple[NodeGroup, ...]:
    """From the RayCluster of the pod this runs in, read as KubeRay's autoscaler reads it.

    The head's service account may read it wherever autoscaling is on. Elsewhere nothing is known. An API server that
    does not answer is asked again after `pause_seconds`.
    """
    name = os.environ.get("RAY_CLUSTER_NAME")
    namespace = os.environ.get("RAY_CLUSTER_NAMESPACE") or _pod_namespace()
    if not name or not namespace:
        return ()
    import requests
    from ray.autoscaler._private.kuberay.node_provider import KubernetesHttpApiClient

    for left in reversed(range(_TRIES)):
        try:
            return groups_of(KubernetesHttpApiClient(namespace=namespace).get(f"rayclusters/{name}"))
        except (OSError, requests.RequestException) as error:
            if not left or _refused(error):
                log.warning("The limits of RayCluster %s cannot be read (%s); only living nodes count.", name, error)
                break
        time.sleep(pause_seconds)
    return ()


def _refused(error: Exception) -> bool:
    """Whether the Kubernetes API answered that this account may not ask: it will say so again."""
    return getattr(getattr(error, "response", None), "status_code", None) in (401, 403)


def groups_of(cluster: Mapping[str, Any]) -> tuple[NodeGroup, ...]:
    """The worker groups of a RayCluster; none where its autoscaling is off."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    if not cluster["spec"].get("enableInTreeAutoscaling"):
        return ()
    types: Sequence[Mapping[str, Any]]
    types = _derive_autoscaling_config_from_ray_cr(dict(cluster))["available_node_types"].values()
    return tuple(
        NodeGroup(kind["max_workers"], NodeShape.of(kind["resources"])) for kind in types if kind["max_workers"]
    )


def _pod_namespace() -> str:
    return _NAMESPACE_FILE.read_text(encoding="utf-8").strip() if _NAMESPACE_FILE.exists() else ""
