"""The nodes that an autoscaler may add to the cluster.

Ray has no public call for its autoscaler's limits. They are read from the cluster configuration that some platforms
report to Ray, or, under KubeRay, from the RayCluster resource that the autoscaler itself reads.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path

import ray

from cluster.shapes import NodeGroup, NodeShape

log = logging.getLogger("dealrec.cluster")

#: Stands for "no limit": more nodes than any run would use.
_UNLIMITED = 1000
_TRIES = 3
_PAUSE_SECONDS = 1.0
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def autoscaler_groups() -> tuple[NodeGroup, ...]:
    """Return the node groups that the connected Ray's autoscaler manages; empty if none are known."""
    return reported_groups() or kuberay_groups()


def reported_groups() -> tuple[NodeGroup, ...]:
    """Read the groups from Ray's control store. Open-source autoscalers of Ray 2.60 report none."""
    config = ray._private.state.state.get_cluster_config()
    if config is None:
        return ()
    return tuple(
        NodeGroup(_UNLIMITED if group.max_count < 0 else group.max_count, NodeShape.of(group.resources))
        for group in config.node_group_configs
        if group.max_count
    )


def kuberay_groups(pause_seconds: float = _PAUSE_SECONDS) -> tuple[NodeGroup, ...]:
    """Read the groups from this pod's RayCluster, the way KubeRay's autoscaler reads it.

    The head's service account may read it wherever autoscaling is enabled. Otherwise the result is empty.
    A request that gets no answer is repeated after `pause_seconds`.
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
                log.warning("Cannot read the limits of RayCluster %s (%s). Counting live nodes only.", name, error)
                break
        time.sleep(pause_seconds)
    return ()


def _refused(error: Exception) -> bool:
    """Return whether the Kubernetes API denied access, which a retry would not change."""
    return getattr(getattr(error, "response", None), "status_code", None) in (401, 403)


def groups_of(cluster: Mapping[str, Mapping[str, object]]) -> tuple[NodeGroup, ...]:
    """Return the worker groups of a RayCluster; empty if its autoscaling is off."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    if not cluster["spec"].get("enableInTreeAutoscaling"):
        return ()
    types = _derive_autoscaling_config_from_ray_cr(dict(cluster))["available_node_types"].values()
    return tuple(
        NodeGroup(kind["max_workers"], NodeShape.of(kind["resources"])) for kind in types if kind["max_workers"]
    )


def _pod_namespace() -> str:
    return _NAMESPACE_FILE.read_text(encoding="utf-8").strip() if _NAMESPACE_FILE.exists() else ""
