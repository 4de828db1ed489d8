import shutil
from pathlib import Path

import pytest
import yaml

from pipeline.engine.config import Config
from tests.k8s.house_rules import GPU, HOUSE_RULES, unguarded, unresolved
from tests.k8s.rendering import K8S, OVERLAYS, cluster_spec, of_kind, render, rendered
from tests.k8s.rules import faults
from tests.k8s.schemas import schema_faults

#: What an overlay names and the user makes; the README must say so.
MADE_BY_THE_USER = frozenset({"Secret/dealrec-credentials"})
STAGED = {"RayJob", "RayCluster"}


def test_the_overlays_that_the_readme_names_are_there() -> None:
    assert {"smoke", "gpu", "kueue", "pvc", "s3", "cluster"} == set(OVERLAYS)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_holds_one_cluster_or_job(overlay: str) -> None:
    kinds = [manifest["kind"] for manifest in of_kind(rendered(overlay), *STAGED)]

    assert kinds == ["RayCluster" if overlay == "cluster" else "RayJob"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_controllers_take_it(overlay: str) -> None:
    for manifest in of_kind(rendered(overlay), *STAGED):
        assert faults(manifest) == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_it_keeps_our_own_rules(overlay: str) -> None:
    manifests = rendered(overlay)

    for manifest in of_kind(manifests, *STAGED):
        assert faults(manifest, HOUSE_RULES) == []
    assert list(unresolved(manifests, MADE_BY_THE_USER)) == []
    assert list(unguarded(manifests)) == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_it_has_the_shape_that_kuberay_publishes(overlay: str) -> None:
    for manifest in of_kind(rendered(overlay), *STAGED):
        assert schema_faults(manifest) == []


def test_the_schema_refuses_a_field_that_it_does_not_know() -> None:
    (job,) = of_kind(rendered("smoke"), "RayJob")
    job["spec"]["rayClusterSpec"]["headGroupSpec"]["replica"] = 1
    job["spec"]["backoffLimit"] = "three"

    assert len(schema_faults(job)) == 2


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_its_config_is_a_config(overlay: str) -> None:
    (config_map,) = of_kind(rendered(overlay), "ConfigMap")
    config = Config.model_validate(yaml.safe_load(config_map["data"]["config.yaml"]))

    assert config.cluster.address == "auto"


@pytest.mark.parametrize("overlay", [overlay for overlay in OVERLAYS if overlay != "cluster"])
def test_training_has_the_gpus_that_its_config_asks_for(overlay: str) -> None:
    manifests = rendered(overlay)
    (job,), (config_map,) = of_kind(manifests, "RayJob"), of_kind(manifests, "ConfigMap")
    config = Config.model_validate(yaml.safe_load(config_map["data"]["config.yaml"]))
    cluster = cluster_spec(job)
    assert cluster is not None
    gpus = sum(
        group["minReplicas"] * int(group["template"]["spec"]["containers"][0]["resources"]["limits"].get(GPU, 0))
        for group in cluster["workerGroupSpecs"]
    )

    assert gpus == config.cluster.gpus
    assert gpus in (0, config.finetune.workers)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_shared_storage_is_mounted_by_every_pod_of_ray(overlay: str) -> None:
    manifests = rendered(overlay)
    claims = {manifest["metadata"]["name"] for manifest in of_kind(manifests, "PersistentVolumeClaim")}
    (manifest,) = of_kind(manifests, *STAGED)
    cluster = cluster_spec(manifest)
    assert cluster is not None
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (volume,) = (entry for entry in group["template"]["spec"]["volumes"] if entry["name"] == "data")
        assert volume.get("persistentVolumeClaim", {}).get("claimName") in (claims or {None})


def test_what_the_user_makes_and_every_overlay_stand_in_the_readme() -> None:
    readme = (K8S / "README.md").read_text(encoding="utf-8")

    for name in (*MADE_BY_THE_USER, *OVERLAYS):
        assert f"`{name.rpartition('/')[2]}`" in readme
    for folder in (K8S / "components").iterdir():
        assert f"`{folder.name}`" in readme


def test_components_fit_together(tmp_path: Path) -> None:
    """GPU pods on a shared volume, which no overlay has: the volume reaches the group that a component added."""
    shutil.copytree(K8S, tmp_path / "k8s")
    folder = tmp_path / "k8s" / "overlays" / "own"
    folder.mkdir()
    parts = ["../../components/gpu", "../../components/kueue", "../../components/pvc"]
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["../../base"],
        "components": parts,
        "images": [{"name": "dealrec", "newTag": "1"}],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
    manifests = render(folder)
    (job,) = of_kind(manifests, "RayJob")

    assert faults(job) + faults(job, HOUSE_RULES) == []
    assert list(unresolved(manifests, MADE_BY_THE_USER)) == []
    claimed = [
        volume["persistentVolumeClaim"]["claimName"]
        for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
        for volume in group["template"]["spec"]["volumes"]
        if volume["name"] == "data"
    ]
    assert claimed == ["dealrec-data", "dealrec-data"]
