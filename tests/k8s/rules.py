"""What the KubeRay and Kueue controllers refuse although their schemas allow it.

After KubeRay's `ray-operator/controllers/ray/utils/validation.go` and Kueue's webhooks for RayJob and RayCluster.
Each rule takes one rendered RayJob or RayCluster and yields a sentence for every fault.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import yaml

from tests.k8s.rendering import Manifest, cluster_spec, pod_templates

#: KubeRay adds a suffix to a job's name for its cluster, and the names of services and pods come from that.
MOST_CHARACTERS = {"RayJob": 47, "RayCluster": 53}
LEAST_RAY_FOR_TOKENS = (2, 52, 0)
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
MOST_KUEUE_GROUPS = 7

Rule = Callable[[Manifest], Iterator[str]]


def name(manifest: Manifest) -> Iterator[str]:
    text = manifest["metadata"]["name"]
    most = MOST_CHARACTERS[manifest["kind"]]
    if len(text) > most:
        yield f"name has {len(text)} characters, more than {most}"
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", text):
        yield f"name {text} is no DNS label that starts with a letter"


def end_of_job(manifest: Manifest) -> Iterator[str]:
    """Shutdown, suspension, time to live and deletion."""
    spec = manifest["spec"]
    if manifest["kind"] != "RayJob":
        return
    shutdown = spec.get("shutdownAfterJobFinishes", False)
    if spec.get("suspend") and not shutdown:
        yield "suspend needs shutdownAfterJobFinishes"
    ttl = spec.get("ttlSecondsAfterFinished", 0)
    if ttl < 0:
        yield "ttlSecondsAfterFinished is negative"
    if ttl > 0 and not shutdown:
        yield "ttlSecondsAfterFinished needs shutdownAfterJobFinishes"
    if shutdown and spec.get("deletionStrategy", {}).get("deletionRules"):
        yield "deletionRules exclude shutdownAfterJobFinishes"
    for field in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        if spec.get(field, 1) <= 0:
            yield f"{field} is not positive"
    if spec.get("backoffLimit", 0) < 0:
        yield "backoffLimit is negative"


def which_cluster(manifest: Manifest) -> Iterator[str]:
    """A job has a cluster of its own, or selects one and then gives up what needs its own."""
    spec = manifest["spec"]
    if manifest["kind"] != "RayJob":
        return
    selector = spec.get("clusterSelector")
    if not selector and "rayClusterSpec" not in spec:
        yield "neither rayClusterSpec nor clusterSelector"
    if selector:
        if not selector.get("ray.io/cluster"):
            yield "clusterSelector names no cluster"
        if spec.get("suspend"):
            yield "suspend excludes clusterSelector"
        if spec.get("backoffLimit", 0) > 0:
            yield "backoffLimit excludes clusterSelector"


def submission(manifest: Manifest) -> Iterator[str]:
    """The entrypoint, the runtime environment and the pod that submits."""
    spec = manifest["spec"]
    if manifest["kind"] != "RayJob":
        return
    mode = spec.get("submissionMode", "K8sJobMode")
    if mode != "InteractiveMode" and not spec.get("entrypoint", "").strip():
        yield "no entrypoint"
    if mode == "InteractiveMode" and spec.get("backoffLimit", 0) > 0:
        yield "backoffLimit excludes InteractiveMode"
    if mode == "SidecarMode" and ("submitterPodTemplate" in spec or "submitterConfig" in spec):
        yield "SidecarMode excludes submitterPodTemplate and submitterConfig"
    template = spec.get("submitterPodTemplate")
    if mode == "K8sJobMode" and template and template["spec"].get("restartPolicy") != "Never":
        # A Kubernetes Job refuses the default, Always; after OnFailure the log of the failure is gone.
        yield "restartPolicy of the submitter is not Never"
    try:
        environment = yaml.safe_load(spec.get("runtimeEnvYAML", "")) or {}
    except yaml.YAMLError:
        yield "runtimeEnvYAML is no YAML"
    else:
        if not isinstance(environment, dict):
            yield "runtimeEnvYAML is no mapping"


def worker_groups(manifest: Manifest) -> Iterator[str]:
    cluster = cluster_spec(manifest)
    if cluster is None:
        return
    scaling = cluster.get("enableInTreeAutoscaling", False)
    seen = set()
    for group in cluster.get("workerGroupSpecs", []):
        label = group.get("groupName", "")
        if not label:
            yield "a worker group has no name"
        if label in seen:
            yield f"two worker groups are called {label}"
        seen.add(label)
        if not scaling and not {"minReplicas", "maxReplicas"} <= group.keys():
            yield f"group {label} needs minReplicas and maxReplicas where nothing scales"
        least, most = group.get("minReplicas", 0), group.get("maxReplicas", 2**31 - 1)
        if not 0 <= least <= group.get("replicas", least) <= most:
            yield f"replicas of group {label} are not between minReplicas and maxReplicas"
        if group.get("suspend"):
            yield f"group {label} is suspended"


def ray_parameters(manifest: Manifest) -> Iterator[str]:
    """What may not be said twice, or only elsewhere."""
    cluster = cluster_spec(manifest)
    if cluster is None:
        return
    for group in (cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", [])):
        label = group.get("groupName", "head")
        parameters = group.get("rayStartParams", {})
        if "labels" in parameters:
            yield f"labels of group {label} stand in rayStartParams"
        if group.get("resources") and {"num-cpus", "num-gpus", "memory", "resources"} & parameters.keys():
            yield f"group {label} has resources and rayStartParams for them"
        if not group["template"]["spec"].get("containers"):
            yield f"group {label} has no container"
    if "networkPolicy" in cluster or "tlsOptions" in cluster:
        yield "networkPolicy and tlsOptions need feature gates that are off by default"


def autoscaler(manifest: Manifest) -> Iterator[str]:
    cluster = cluster_spec(manifest)
    if cluster is None:
        return
    options = cluster.get("autoscalerOptions", {})
    head = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
    switched = any(variable["name"] == "RAY_enable_autoscaler_v2" for variable in head.get("env", []))
    if options.get("idleTimeoutSeconds", 0) < 0:
        yield "idleTimeoutSeconds is negative"
    if not cluster.get("enableInTreeAutoscaling"):
        if switched:
            yield "RAY_enable_autoscaler_v2 is set where nothing scales"
        return
    if options.get("version") and switched:
        yield "RAY_enable_autoscaler_v2 is set beside autoscalerOptions.version"
    if options.get("version") == "v2":
        for pod in pod_templates(manifest):
            if pod.where != "submitter" and pod.spec.get("restartPolicy", "Never") != "Never":
                yield f"restartPolicy of {pod.where} is not Never under autoscaler v2"


def authentication(manifest: Manifest) -> Iterator[str]:
    cluster = cluster_spec(manifest)
    if cluster is None:
        return
    options = cluster.get("authOptions", {})
    kubernetes = options.get("enableK8sTokenAuth", False)
    if kubernetes and manifest["kind"] == "RayJob":
        yield "enableK8sTokenAuth is not for a RayJob"
    if options.get("mode") != "token":
        if kubernetes:
            yield "enableK8sTokenAuth needs mode token"
        return
    numbers = re.findall(r"\d+", str(cluster.get("rayVersion", "")))[:3]
    if tuple(map(int, numbers)) < LEAST_RAY_FOR_TOKENS:
        yield "token authentication needs rayVersion 2.52.0 or later"


def kueue(manifest: Manifest) -> Iterator[str]:
    """What Kueue refuses in a job of one of its queues."""
    if QUEUE_LABEL not in manifest["metadata"].get("labels", {}):
        return
    spec, cluster = manifest["spec"], cluster_spec(manifest)
    if cluster is None or spec.get("clusterSelector"):
        yield "a queued job cannot use a cluster that is there"
        return
    if manifest["kind"] == "RayJob" and not spec.get("shutdownAfterJobFinishes"):
        yield "a queued job needs shutdownAfterJobFinishes"
    if cluster.get("enableInTreeAutoscaling"):
        yield "a queued cluster cannot scale"
    groups = cluster.get("workerGroupSpecs", [])
    if len(groups) > MOST_KUEUE_GROUPS:
        yield f"a queued cluster has more than {MOST_KUEUE_GROUPS} worker groups"
    if any(group.get("groupName") == "head" for group in groups):
        yield "head is the name of the head's group"


CONTROLLER_RULES: tuple[Rule, ...] = (
    name,
    end_of_job,
    which_cluster,
    submission,
    worker_groups,
    ray_parameters,
    autoscaler,
    authentication,
    kueue,
)


def faults(manifest: Manifest, rules: tuple[Rule, ...] = CONTROLLER_RULES) -> list[str]:
    """Everything that the rules object to in one RayJob or RayCluster."""
    return [fault for rule in rules for fault in rule(manifest)]
