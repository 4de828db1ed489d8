"""Every rule objects to a manifest that breaks it."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.k8s import house_rules, rules
from tests.k8s.rendering import Manifest, cluster_spec, of_kind, rendered
from tests.k8s.rules import Rule, faults

MADE_BY_THE_USER = frozenset({"Secret/dealrec-credentials"})

Break = Callable[[Any], object]
Case = tuple[Rule, str, Break, str]


def _cluster(job: Manifest) -> Manifest:
    spec = cluster_spec(job)
    assert spec is not None
    return spec


def _head(job: Manifest) -> Manifest:
    template: Manifest = _cluster(job)["headGroupSpec"]["template"]["spec"]
    return template


def _group(job: Manifest, index: int = 0) -> Manifest:
    group: Manifest = _cluster(job)["workerGroupSpecs"][index]
    return group


def _selects(job: Manifest, **spec: object) -> None:
    del job["spec"]["rayClusterSpec"]
    job["spec"].update({"clusterSelector": {"ray.io/cluster": "dealrec"}, "backoffLimit": 0}, **spec)


#: The rule, the overlay that is broken, how, and what the rule says of it.
CASES: list[Case] = [
    (rules.name, "smoke", lambda job: job["metadata"].update(name="d" * 48), "name has 48 characters"),
    (rules.name, "cluster", lambda job: job["metadata"].update(name="d" * 54), "name has 54 characters"),
    (rules.name, "smoke", lambda job: job["metadata"].update(name="1-run"), "no DNS label"),
    (rules.name, "smoke", lambda job: job["metadata"].update(name="My_run"), "no DNS label"),
    (rules.end_of_job, "kueue", lambda job: job["spec"].update(shutdownAfterJobFinishes=False), "suspend needs"),
    (rules.end_of_job, "smoke", lambda job: job["spec"].pop("shutdownAfterJobFinishes"), "Finished needs shutdown"),
    (rules.end_of_job, "smoke", lambda job: job["spec"].update(ttlSecondsAfterFinished=-1), "is negative"),
    (rules.end_of_job, "smoke", lambda job: job["spec"].update(activeDeadlineSeconds=0), "activeDeadlineSeconds"),
    (rules.end_of_job, "smoke", lambda job: job["spec"].update(preRunningDeadlineSeconds=-1), "preRunningDeadline"),
    (rules.end_of_job, "smoke", lambda job: job["spec"].update(backoffLimit=-1), "backoffLimit is negative"),
    (
        rules.end_of_job,
        "smoke",
        lambda job: job["spec"].update(deletionStrategy={"deletionRules": [{"policy": "DeleteSelf"}]}),
        "deletionRules exclude",
    ),
    (rules.which_cluster, "smoke", lambda job: job["spec"].pop("rayClusterSpec"), "neither"),
    (rules.which_cluster, "smoke", lambda job: _selects(job, clusterSelector={"app": "x"}), "names no cluster"),
    (rules.which_cluster, "smoke", lambda job: _selects(job, suspend=True), "suspend excludes"),
    (rules.which_cluster, "smoke", lambda job: _selects(job, backoffLimit=1), "backoffLimit excludes"),
    (rules.submission, "smoke", lambda job: job["spec"].update(entrypoint=" "), "no entrypoint"),
    (rules.submission, "smoke", lambda job: job["spec"].update(submissionMode="InteractiveMode"), "InteractiveMode"),
    (rules.submission, "smoke", lambda job: job["spec"].update(submissionMode="SidecarMode"), "SidecarMode"),
    (
        rules.submission,
        "smoke",
        lambda job: job["spec"]["submitterPodTemplate"]["spec"].pop("restartPolicy"),
        "is not Never",
    ),
    (rules.submission, "smoke", lambda job: job["spec"].update(runtimeEnvYAML="a: [1"), "no YAML"),
    (rules.submission, "smoke", lambda job: job["spec"].update(runtimeEnvYAML="- a"), "no mapping"),
    (rules.worker_groups, "smoke", lambda job: _group(job).pop("groupName"), "has no name"),
    (rules.worker_groups, "gpu", lambda job: _group(job, 1).update(groupName="scoring"), "two worker groups"),
    (rules.worker_groups, "kueue", lambda job: _group(job).pop("maxReplicas"), "needs minReplicas"),
    (rules.worker_groups, "smoke", lambda job: _group(job).update(minReplicas=2, replicas=2), "not between"),
    (rules.worker_groups, "smoke", lambda job: _group(job).update(replicas=5), "not between"),
    (rules.worker_groups, "smoke", lambda job: _group(job).update(minReplicas=-1), "not between"),
    (rules.worker_groups, "smoke", lambda job: _group(job).update(suspend=True), "is suspended"),
    (
        rules.ray_parameters,
        "smoke",
        lambda job: _group(job)["rayStartParams"].update(labels="a=b"),
        "stand in rayStartParams",
    ),
    (
        rules.ray_parameters,
        "smoke",
        lambda job: _cluster(job)["headGroupSpec"].update(resources={"CPU": "1"}),
        "has resources and rayStartParams",
    ),
    (rules.ray_parameters, "smoke", lambda job: _head(job).update(containers=[]), "has no container"),
    (rules.ray_parameters, "smoke", lambda job: _cluster(job).update(networkPolicy={}), "feature gates"),
    (
        rules.autoscaler,
        "smoke",
        lambda job: _cluster(job)["autoscalerOptions"].update(idleTimeoutSeconds=-1),
        "idleTimeoutSeconds",
    ),
    (
        rules.autoscaler,
        "smoke",
        lambda job: _head(job)["containers"][0].update(env=[{"name": "RAY_enable_autoscaler_v2", "value": "1"}]),
        "beside autoscalerOptions",
    ),
    (
        rules.autoscaler,
        "kueue",
        lambda job: _head(job)["containers"][0].update(env=[{"name": "RAY_enable_autoscaler_v2", "value": "1"}]),
        "where nothing scales",
    ),
    (rules.autoscaler, "smoke", lambda job: _head(job).update(restartPolicy="Always"), "restartPolicy of head"),
    (rules.authentication, "smoke", lambda job: _cluster(job).update(rayVersion="2.51.2"), "2.52.0 or later"),
    (rules.authentication, "smoke", lambda job: _cluster(job).pop("rayVersion"), "2.52.0 or later"),
    (
        rules.authentication,
        "smoke",
        lambda job: _cluster(job)["authOptions"].update(enableK8sTokenAuth=True),
        "not for a RayJob",
    ),
    (
        rules.authentication,
        "cluster",
        lambda job: _cluster(job).update(authOptions={"enableK8sTokenAuth": True}),
        "needs mode token",
    ),
    (rules.kueue, "kueue", lambda job: _cluster(job).update(enableInTreeAutoscaling=True), "cannot scale"),
    (rules.kueue, "kueue", lambda job: job["spec"].pop("shutdownAfterJobFinishes"), "needs shutdown"),
    (rules.kueue, "kueue", _selects, "cannot use a cluster"),
    (rules.kueue, "kueue", lambda job: _group(job).update(groupName="head"), "name of the head"),
    (
        rules.kueue,
        "kueue",
        lambda job: _cluster(job).update(workerGroupSpecs=[_group(job)] * 8),
        "more than 7 worker groups",
    ),
    (
        house_rules.resources,
        "smoke",
        lambda job: _head(job)["initContainers"][0].pop("resources"),
        "container prepare requests no cpu",
    ),
    (
        house_rules.resources,
        "smoke",
        lambda job: _head(job)["containers"][0]["resources"]["limits"].pop("cpu"),
        "has no limit of cpu",
    ),
    (
        house_rules.resources,
        "smoke",
        lambda job: _head(job)["containers"][0]["resources"]["requests"].update(memory="1Gi"),
        "another amount of memory",
    ),
    (house_rules.resources, "smoke", lambda job: _cluster(job)["autoscalerOptions"].pop("resources"), "autoscaler"),
    (
        house_rules.resources,
        "smoke",
        lambda job: job["spec"]["submitterPodTemplate"]["spec"]["containers"][0].pop("resources"),
        "submitter container",
    ),
    (
        house_rules.privileges,
        "smoke",
        lambda job: _head(job)["securityContext"].update(runAsNonRoot=False),
        "head may run as root",
    ),
    (
        house_rules.privileges,
        "smoke",
        lambda job: _head(job)["securityContext"].pop("seccompProfile"),
        "no seccomp profile",
    ),
    (house_rules.privileges, "smoke", lambda job: _head(job).update(hostNetwork=True), "hostNetwork"),
    (
        house_rules.privileges,
        "smoke",
        lambda job: _head(job)["volumes"].append({"name": "h", "hostPath": {"path": "/"}}),
        "path of its host",
    ),
    (
        house_rules.privileges,
        "smoke",
        lambda job: _head(job)["containers"][0].pop("securityContext"),
        "may gain privileges",
    ),
    (
        house_rules.privileges,
        "smoke",
        lambda job: _head(job)["containers"][0]["securityContext"]["capabilities"].update(drop=["NET_RAW"]),
        "keeps capabilities",
    ),
    (
        house_rules.privileges,
        "smoke",
        lambda job: _head(job)["containers"][0]["securityContext"].update(runAsUser=0),
        "container ray-head may run as root",
    ),
    (
        house_rules.images,
        "smoke",
        lambda job: _head(job)["containers"][0].update(image="host:5000/dealrec:latest"),
        "without a fixed tag",
    ),
    (
        house_rules.images,
        "smoke",
        lambda job: _head(job)["containers"][0].update(image="host:5000/dealrec"),
        "without a fixed tag",
    ),
    (
        house_rules.images,
        "smoke",
        lambda job: _head(job)["containers"][0].update(image="dealrec:0.0.1"),
        "several images",
    ),
    (
        house_rules.cluster,
        "smoke",
        lambda job: _cluster(job)["headGroupSpec"]["rayStartParams"].pop("num-cpus"),
        "offers CPUs",
    ),
    (house_rules.cluster, "smoke", lambda job: _cluster(job).pop("authOptions"), "no token"),
    (house_rules.cluster, "smoke", lambda job: _cluster(job).update(rayVersion="2.59.0"), "rayVersion"),
    (house_rules.cluster, "smoke", lambda job: _group(job).update(minReplicas=1), "does not scale from 0"),
    (
        house_rules.cluster,
        "smoke",
        lambda job: _group(job)["template"]["spec"]["containers"][0].update(volumeMounts=[]),
        "no /dev/shm",
    ),
    (
        house_rules.cluster,
        "gpu",
        lambda job: _cluster(job)["headGroupSpec"]["template"]["spec"]["containers"][0]["resources"]["limits"].update(
            memory="32Gi"
        ),
        "group head has a /dev/shm too small",
    ),
    (
        house_rules.cluster,
        "gpu",
        lambda job: _group(job, 1)["template"]["spec"].pop("tolerations"),
        "does not tolerate",
    ),
    (house_rules.job, "smoke", lambda job: job["spec"].update(submissionMode="HTTPMode"), "a pod that we describe"),
    (house_rules.job, "smoke", lambda job: job["spec"].pop("activeDeadlineSeconds"), "no activeDeadlineSeconds"),
    (house_rules.job, "smoke", lambda job: job["spec"].update(shutdownAfterJobFinishes=False), "outlives"),
    (house_rules.job, "smoke", lambda job: job["spec"].update(entrypoint="python $RUN"), "submitting shell"),
    (
        house_rules.job,
        "smoke",
        lambda job: job["spec"].update(runtimeEnvYAML="env_vars: {A: $(id)}"),
        "submitting shell",
    ),
    (
        house_rules.job,
        "smoke",
        lambda job: job["spec"].update(runtimeEnvYAML="env_vars: {PYTHONPATH: /x}"),
        "sets PYTHONPATH",
    ),
]


@pytest.mark.parametrize(("rule", "overlay", "broken", "message"), CASES)
def test_a_rule_objects(rule: Rule, overlay: str, broken: Break, message: str) -> None:
    (manifest,) = of_kind(rendered(overlay), "RayJob", "RayCluster")
    assert faults(manifest, (rule,)) == []
    broken(manifest)

    assert any(message in fault for fault in faults(manifest, (rule,)))


def test_every_rule_is_tried() -> None:
    assert {case[0] for case in CASES} == {*rules.CONTROLLER_RULES, *house_rules.HOUSE_RULES}


@pytest.mark.parametrize("kind", ["ServiceAccount", "ConfigMap", "PersistentVolumeClaim"])
def test_an_object_that_nobody_makes_is_named(kind: str) -> None:
    manifests = rendered("smoke")
    left = [manifest for manifest in manifests if manifest["kind"] != kind]

    assert list(house_rules.unresolved(manifests, MADE_BY_THE_USER)) == []
    assert any(f"names {kind}/" in fault for fault in house_rules.unresolved(left, MADE_BY_THE_USER))


def test_a_secret_that_the_user_is_not_told_of_is_named() -> None:
    found = list(house_rules.unresolved(rendered("s3"), frozenset()))

    assert "head names Secret/dealrec-credentials" in found


def test_a_mount_without_its_volume_is_named() -> None:
    manifests = rendered("smoke")
    (job,) = of_kind(manifests, "RayJob")
    _head(job)["volumes"] = [volume for volume in _head(job)["volumes"] if volume["name"] != "shm"]

    assert "head container ray-head mounts shm" in house_rules.unresolved(manifests, MADE_BY_THE_USER)


def test_a_pod_that_no_policy_guards_is_named() -> None:
    manifests = rendered("smoke")
    (job,), (policy,) = of_kind(manifests, "RayJob"), of_kind(manifests, "NetworkPolicy")
    del job["spec"]["submitterPodTemplate"]["metadata"]
    assert list(house_rules.unguarded(manifests)) == ["no NetworkPolicy selects submitter"]

    policy["spec"]["policyTypes"] = ["Ingress"]
    assert len(list(house_rules.unguarded(manifests))) == 3
