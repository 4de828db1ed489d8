"""What we ask of our own manifests beyond what a controller refuses.

Rules over one RayJob or RayCluster have the form of those in `rules`; two more look at an overlay as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

from cluster.session import WORKER_ENVIRONMENT
from tests.k8s.rendering import Manifest, cluster_spec, of_kind, pod_templates
from tests.k8s.rules import Rule

SUPPORTED_RAY = "2.60"
GPU = "nvidia.com/gpu"
#: Of the memory, what Ray keeps objects in unless told otherwise.
_OBJECT_STORE = 0.3
_UNITS = {"": 1, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
#: Which field of a volume or an environment source names an object of which kind.
_REFERENCES = {
    "configMap": ("ConfigMap", "name"),
    "secret": ("Secret", "secretName"),
    "persistentVolumeClaim": ("PersistentVolumeClaim", "claimName"),
    "configMapRef": ("ConfigMap", "name"),
    "secretRef": ("Secret", "name"),
    "configMapKeyRef": ("ConfigMap", "name"),
    "secretKeyRef": ("Secret", "name"),
}


def _sizes(manifest: Manifest) -> Iterator[tuple[str, Manifest]]:
    """Where resources are asked for, and what: every container, and the autoscaler beside the head."""
    for pod in pod_templates(manifest):
        for where, container in pod.containers():
            yield where, container.get("resources", {})
    cluster = cluster_spec(manifest)
    if cluster and cluster.get("enableInTreeAutoscaling"):
        yield "autoscaler", cluster.get("autoscalerOptions", {}).get("resources", {})


def resources(manifest: Manifest) -> Iterator[str]:
    """Requests and limits everywhere; memory alike, so that no pod is evicted for memory it was promised."""
    for where, size in _sizes(manifest):
        requests, limits = size.get("requests", {}), size.get("limits", {})
        for amount in ("cpu", "memory"):
            if amount not in requests:
                yield f"{where} requests no {amount}"
            if amount not in limits:
                yield f"{where} has no limit of {amount}"
        if requests.get("memory") != limits.get("memory"):
            yield f"{where} requests another amount of memory than its limit"


def _contexts(manifest: Manifest) -> Iterator[tuple[str, Manifest]]:
    for pod in pod_templates(manifest):
        for where, container in pod.containers():
            yield where, container.get("securityContext", {})
    cluster = cluster_spec(manifest)
    if cluster and cluster.get("enableInTreeAutoscaling"):
        yield "autoscaler", cluster.get("autoscalerOptions", {}).get("securityContext", {})


def privileges(manifest: Manifest) -> Iterator[str]:
    """The pod security standard `restricted`."""
    for pod in pod_templates(manifest):
        context = pod.spec.get("securityContext", {})
        if not context.get("runAsNonRoot") or not context.get("runAsUser"):
            yield f"{pod.where} may run as root"
        if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{pod.where} has no seccomp profile"
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.spec.get(field):
                yield f"{pod.where} has {field}"
        if any("hostPath" in volume for volume in pod.spec.get("volumes", [])):
            yield f"{pod.where} mounts a path of its host"
    for where, context in _contexts(manifest):
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{where} may gain privileges"
        if context.get("capabilities", {}).get("drop") != ["ALL"]:
            yield f"{where} keeps capabilities"
        if context.get("privileged") or context.get("runAsUser") == 0 or context.get("runAsNonRoot") is False:
            yield f"{where} may run as root"


def images(manifest: Manifest) -> Iterator[str]:
    """A tag, and the same one everywhere: Ray refuses a cluster of several versions."""
    tags = set()
    for pod in pod_templates(manifest):
        for where, container in pod.containers():
            image = container.get("image", "")
            _, colon, tag = image.rpartition("/")[2].partition(":")
            if "@sha256:" not in image and (not colon or tag == "latest"):
                yield f"{where} has an image without a fixed tag: {image}"
            tags.add(image)
    if len(tags) > 1:
        yield f"several images in one cluster: {', '.join(sorted(tags))}"


def _bytes(quantity: str) -> float:
    """Of a Kubernetes quantity of memory."""
    number = quantity.rstrip("MGTi")
    return float(number) * _UNITS[quantity[len(number) :]]


def cluster(manifest: Manifest) -> Iterator[str]:
    """The head computes nothing, the scoring group starts from 0 unless a queue fixes it, tokens are asked for."""
    spec = cluster_spec(manifest)
    if spec is None:
        return
    parameters = spec["headGroupSpec"].get("rayStartParams", {})
    if parameters.get("num-cpus") != "0":
        yield "the head offers CPUs to Ray"
    if spec.get("authOptions", {}).get("mode") != "token":
        yield "Ray asks for no token"
    if not str(spec.get("rayVersion", "")).startswith(SUPPORTED_RAY):
        yield f"rayVersion is not {SUPPORTED_RAY}"
    groups = {group["groupName"]: group for group in spec.get("workerGroupSpecs", [])}
    if spec.get("enableInTreeAutoscaling") and groups.get("scoring", {}).get("minReplicas") != 0:
        yield "the scoring group does not scale from 0"
    for label, group in {"head": spec["headGroupSpec"], **groups}.items():
        pod = group["template"]["spec"]
        limits = pod["containers"][0].get("resources", {}).get("limits", {})
        mounts = [mount for container in pod["containers"] for mount in container.get("volumeMounts", [])]
        memory_volumes = {volume["name"]: volume.get("emptyDir", {}) for volume in pod.get("volumes", [])}
        shared = [memory_volumes.get(mount["name"], {}) for mount in mounts if mount["mountPath"] == "/dev/shm"]
        if not shared:
            yield f"group {label} has no /dev/shm of its own"
        elif _bytes(shared[0].get("sizeLimit", "0")) < _OBJECT_STORE * _bytes(limits.get("memory", "0")):
            yield f"group {label} has a /dev/shm too small for Ray's object store"
        tolerated = {toleration.get("key") for toleration in pod.get("tolerations", [])}
        if GPU in limits and GPU not in tolerated:
            yield f"group {label} has GPUs and does not tolerate their taint"


def job(manifest: Manifest) -> Iterator[str]:
    """A run that ends by itself, is tried again, and is submitted as it is written."""
    spec = manifest["spec"]
    if manifest["kind"] != "RayJob":
        return
    if spec.get("submissionMode") != "K8sJobMode" or "submitterPodTemplate" not in spec:
        yield "the job is not submitted by a pod that we describe"
    for field in ("activeDeadlineSeconds", "preRunningDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"):
        if field not in spec:
            yield f"no {field}"
    if not spec.get("shutdownAfterJobFinishes"):
        yield "the cluster outlives the job"
    if re.search(r"[^\w ./:=,@+-]", spec.get("entrypoint", "")):
        yield "the entrypoint holds characters that the submitting shell reads"
    environment = spec.get("runtimeEnvYAML", "")
    if re.search(r"[$`!]", environment):
        yield "the runtime environment holds characters that the submitting shell reads"
    try:
        variables = (yaml.safe_load(environment) or {}).get("env_vars", {})
    except yaml.YAMLError:
        return
    for key in sorted({"PYTHONPATH", *WORKER_ENVIRONMENT} & variables.keys()):
        yield f"the runtime environment sets {key}, which the program sets itself"


HOUSE_RULES: tuple[Rule, ...] = (resources, privileges, images, cluster, job)


def unresolved(manifests: list[Manifest], made_by_the_user: frozenset[str]) -> Iterator[str]:
    """Objects that pods name, as `Kind/name`, and that neither the overlay nor the user makes; dangling mounts."""
    there = {f"{manifest['kind']}/{manifest['metadata']['name']}" for manifest in manifests} | made_by_the_user
    for manifest in of_kind(manifests, "RayJob", "RayCluster"):
        for pod in pod_templates(manifest):
            named = set(_named(pod.template))
            account = pod.spec.get("serviceAccountName")
            if account:
                named.add(f"ServiceAccount/{account}")
            yield from (f"{pod.where} names {reference}" for reference in sorted(named - there))
            volumes = {volume["name"] for volume in pod.spec.get("volumes", [])}
            for where, container in pod.containers():
                mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
                yield from (f"{where} mounts {volume}" for volume in sorted(mounted - volumes))


def _named(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in _REFERENCES and isinstance(inner, dict):
                kind, field = _REFERENCES[key]
                yield f"{kind}/{inner[field]}"
            yield from _named(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _named(inner)


def unguarded(manifests: list[Manifest]) -> Iterator[str]:
    """Pods that no NetworkPolicy selects for both directions."""
    policies = [
        policy["spec"]["podSelector"].get("matchLabels", {})
        for policy in of_kind(manifests, "NetworkPolicy")
        if {"Ingress", "Egress"} <= set(policy["spec"].get("policyTypes", []))
    ]
    for manifest in of_kind(manifests, "RayJob", "RayCluster"):
        for pod in pod_templates(manifest):
            labels = pod.template.get("metadata", {}).get("labels", {})
            if not any(wanted.items() <= labels.items() for wanted in policies):
                yield f"no NetworkPolicy selects {pod.where}"
