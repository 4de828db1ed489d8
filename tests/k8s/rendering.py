"""Overlays as kustomize renders them, and the parts of them that tests look at."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.project_root import PROJECT_ROOT

K8S = PROJECT_ROOT / "k8s"
OVERLAYS = sorted(path.parent.name for path in (K8S / "overlays").glob("*/kustomization.yaml"))

Manifest = dict[str, Any]


@dataclass(frozen=True)
class PodTemplate:
    """A pod template inside a manifest: where it stands, and its content."""

    where: str
    template: Manifest

    @property
    def spec(self) -> Manifest:
        spec: Manifest = self.template["spec"]
        return spec

    def containers(self) -> Iterator[tuple[str, Manifest]]:
        """Name and content of every container, initial ones included."""
        for field in ("initContainers", "containers"):
            for container in self.spec.get(field, []):
                yield f"{self.where} container {container['name']}", container


def render(folder: Path) -> list[Manifest]:
    """The manifests of a kustomization. Skips the test where kubectl is not installed."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed, so overlays cannot be rendered")
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


@functools.cache
def _rendered(overlay: str) -> str:
    return yaml.safe_dump_all(render(K8S / "overlays" / overlay))


def rendered(overlay: str) -> list[Manifest]:
    """The manifests of an overlay, a fresh copy each time, rendered once a session."""
    return list(yaml.safe_load_all(_rendered(overlay)))


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def cluster_spec(manifest: Manifest) -> Manifest | None:
    """The RayCluster's spec within a RayJob or a RayCluster; None in a job that selects a cluster."""
    spec: Manifest = manifest["spec"]
    return spec if manifest["kind"] == "RayCluster" else spec.get("rayClusterSpec")


def pod_templates(manifest: Manifest) -> list[PodTemplate]:
    """Every pod template that a RayJob or a RayCluster holds."""
    found = []
    submitter = manifest["spec"].get("submitterPodTemplate")
    if submitter:
        found.append(PodTemplate("submitter", submitter))
    cluster = cluster_spec(manifest)
    if cluster:
        found.append(PodTemplate("head", cluster["headGroupSpec"]["template"]))
        for group in cluster.get("workerGroupSpecs", []):
            found.append(PodTemplate(f"group {group.get('groupName', '')}", group["template"]))
    return found
