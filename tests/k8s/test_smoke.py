"""What the overlay `smoke` submits, submitted here: its entrypoint, runtime environment and config."""

import logging
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from ray.job_submission import JobStatus, JobSubmissionClient

from pipeline.stages.stage_list import STAGES
from tests.k8s.rendering import of_kind, rendered
from tests.small_log import small_log, write_log
from tests.tiny_llm import make_tiny_llm

#: Folders of the pods; on this machine other folders stand for them.
MOUNTS = ("/etc/dealrec", "/data")
_FINAL = {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED}


def _moved(value: Any, folder: Path) -> Any:
    """The value with the pods' folders replaced in every path, and nothing else."""
    if isinstance(value, dict):
        return {key: _moved(inner, folder) for key, inner in value.items()}
    if isinstance(value, str):
        for mount in MOUNTS:
            value = value.replace(f"{mount}/", f"{folder}{mount}/")
    return value


@pytest.mark.slow
def test_smoke_runs_to_its_end_as_a_ray_job(ray_head: str, tmp_path: Path) -> None:
    manifests = rendered("smoke")
    (job,), (config_map,) = of_kind(manifests, "RayJob"), of_kind(manifests, "ConfigMap")
    config = yaml.safe_load(config_map["data"]["config.yaml"])
    entrypoint = _moved(job["spec"]["entrypoint"], tmp_path)
    runtime_env = _moved(yaml.safe_load(job["spec"]["runtimeEnvYAML"]), tmp_path)
    mounted = tmp_path / "etc" / "dealrec" / "config.yaml"
    mounted.parent.mkdir(parents=True)
    mounted.write_text(yaml.safe_dump(_moved(config, tmp_path)), encoding="utf-8")
    # In place of what the head's first container prepares: a smaller log and model of the same form.
    log = small_log()
    ratings = pa.array([5.0] * log.num_rows)
    write_log(Path(_moved(config["data"]["interactions"], tmp_path)), log.append_column("rating", ratings))
    make_tiny_llm(_moved(config["llm"]["model"], tmp_path))

    client = JobSubmissionClient(ray_head)
    name = client.submit_job(entrypoint=entrypoint, runtime_env=runtime_env)
    while (status := client.get_job_status(name)) not in _FINAL:
        time.sleep(1.0)
    logging.getLogger(__name__).info("%s", client.get_job_logs(name))

    assert status == JobStatus.SUCCEEDED
    run = Path(_moved(job["spec"]["entrypoint"].split("--run-dir ")[1], tmp_path))
    assert {stage.name for stage in STAGES if not (run / stage.folder / "_manifest.json").exists()} == set()
    assert (run / "report.html").exists()
