"""Metrics as Prometheus would scrape them from a node of a real Ray."""

from __future__ import annotations

import time
import urllib.request

import pytest
import ray

from cluster.ray_metrics import StageMetrics


def scrape() -> dict[str, float]:
    """Return our metrics that the node exports, by name and stage."""
    node = ray.nodes()[0]
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    text = urllib.request.urlopen(address, timeout=10).read().decode()
    values = {}
    for line in text.splitlines():
        if line.startswith("ray_dealrec_") and 'stage="here"' in line:
            name, value = line.split("{")[0].removeprefix("ray_"), line.rsplit(" ", 1)[1]
            values[name] = float(value)
    return values


@pytest.mark.slow
def test_a_node_exports_what_a_stage_does(ray_local: None) -> None:
    now = [0.0]
    metrics = StageMetrics("here", clock=lambda: now[0])
    # 100 rows existed already, from a run that was killed.
    for done, rows, tokens in ((1, 100, 1000), (2, 150, 1500), (3, 300, 3000)):
        metrics.update(done, 4, rows=rows, tokens=tokens, rejected=done - 1, loss=0.5)
        now[0] += 10
    expected: dict[str, float] = {
        "dealrec_stage": 1,
        "dealrec_units_done": 3,
        "dealrec_units_total": 4,
        "dealrec_samples_total": 200,
        "dealrec_tokens_total": 2000,
        "dealrec_rows_rejected_total": 2,
        "dealrec_tokens_per_second": 150,
    }
    assert eventually(expected) == expected
    metrics.close()
    assert eventually({**expected, "dealrec_stage": 0})["dealrec_stage"] == 0


def eventually(expected: dict[str, float]) -> dict[str, float]:
    """Return the metrics once they are as expected, or after a minute; Ray reports every ten seconds."""
    end = time.monotonic() + 60
    while (found := scrape()) != expected and time.monotonic() < end:
        time.sleep(1)
    return found


def test_without_ray_nothing_is_said() -> None:
    if ray.is_initialized():
        pytest.skip("another test of this session has connected")
    metrics = StageMetrics("here")
    metrics.update(1, 2, rows=3)
    metrics.close()
