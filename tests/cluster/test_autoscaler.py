"""The limits of KubeRay's autoscaler, read from the RayClusters that our own manifests create."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from ray.autoscaler._private.kuberay.node_provider import KubernetesHttpApiClient

from cluster.autoscaler import groups_of, kuberay_groups
from cluster.shapes import NodeGroup, NodeShape

MANIFEST = Path(__file__).resolve().parents[2] / "k8s" / "base" / "rayjob.yaml"


@pytest.fixture
def cluster() -> dict[str, Any]:
    job = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    return {"metadata": {"name": "dealrec-x", "namespace": "jobs"}, "spec": job["spec"]["rayClusterSpec"]}


def test_a_group_that_starts_from_nothing_has_its_limit(cluster: dict[str, Any]) -> None:
    assert groups_of(cluster) == (NodeGroup(16, NodeShape(cpus=8, memory=32 * 2**30)),)


def test_without_autoscaling_nothing_comes(cluster: dict[str, Any]) -> None:
    cluster["spec"]["enableInTreeAutoscaling"] = False
    assert groups_of(cluster) == ()


def test_outside_of_kubernetes_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_CLUSTER_NAME", raising=False)
    assert kuberay_groups() == ()


def test_a_cluster_that_may_not_be_read_counts_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    # In a pod whose account may not ask, there is no token to read.
    monkeypatch.setenv("RAY_CLUSTER_NAME", "dealrec")
    monkeypatch.setenv("RAY_CLUSTER_NAMESPACE", "jobs")
    assert kuberay_groups() == ()


@pytest.mark.parametrize(("status", "asked"), [(403, 1), (500, 3)])
def test_a_refusal_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch, status: int, asked: int) -> None:
    calls: list[str] = []

    def answer(client: KubernetesHttpApiClient, path: str) -> dict[str, Any]:
        calls.append(path)
        response = requests.Response()
        response.status_code = status
        raise requests.HTTPError(str(status), response=response)

    monkeypatch.setenv("RAY_CLUSTER_NAME", "dealrec")
    monkeypatch.setenv("RAY_CLUSTER_NAMESPACE", "jobs")
    monkeypatch.setattr(KubernetesHttpApiClient, "__init__", lambda client, namespace: None)
    monkeypatch.setattr(KubernetesHttpApiClient, "get", answer)
    assert kuberay_groups(pause_seconds=0.0) == ()
    assert calls == ["rayclusters/dealrec"] * asked
