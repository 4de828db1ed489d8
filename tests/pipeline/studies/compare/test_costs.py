"""What a coreset costs before tuning: the passes that its selector reads, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.storage import Storage
from pipeline.engine.config_file import parse_config
from pipeline.engine.manifest import Fingerprint, Manifest
from pipeline.stages.stage_list import SHARED_STAGES
from pipeline.studies.compare.arms import Arm, arm_config, arm_graph
from pipeline.studies.compare.costs import scoring_seconds

CONFIG = parse_config({"data": {"interactions": "x"}}, "c")
SECONDS = {"ingest": 1.0, "surrogate": 10.0, "influence": 100.0, "effort": 1000.0}


@pytest.fixture
def run(tmp_path: Path) -> Storage:
    folder = Storage.at(tmp_path)
    for stage in SHARED_STAGES:
        made = Manifest(stage.name, Fingerprint({}, {}, 1), stage.name, [], {}, SECONDS[stage.name], 1)
        made.write(folder.child(*stage.folder.split("/")))
    return folder


@pytest.mark.parametrize(
    ("selector", "seconds"),
    [
        ("random", 0.0),
        ("popularity", 0.0),
        ("el2n", 10.0),
        ("influence", 110.0),
        ("effort", 1000.0),
        ("dealrec", 1110.0),
    ],
)
def test_a_selector_is_billed_with_the_stages_it_reads(run: Storage, selector: str, seconds: float) -> None:
    assert scoring_seconds(arm_config(CONFIG, Arm(selector, 8, 0)), run) == seconds


def test_a_feature_is_billed_with_all_attempts(run: Storage) -> None:
    arm = Arm("el2n", 8, 0)
    config, graph = arm_config(CONFIG, arm), arm_graph(CONFIG, run, arm)
    out = graph.folder(graph.stage("el2n"))
    Manifest("el2n", Fingerprint({}, {}, 1), "c", [], {}, 7.0, 2).write(out)
    assert scoring_seconds(config, run) == 17.0
    # Seconds from before features were stages.
    out.write_json("_seconds.json", 2.0)
    assert scoring_seconds(config, run) == 19.0


def test_an_influence_on_the_reference_is_billed_in_place_of_the_stages(run: Storage) -> None:
    arm = Arm("influence+influence=reference", 8, 0)
    graph = arm_graph(CONFIG, run, arm)
    out = graph.folder(graph.stage("reference_influence"))
    Manifest("reference_influence", Fingerprint({}, {}, 1), "c", [], {}, 50.0, 1).write(out)
    assert scoring_seconds(arm_config(CONFIG, arm), run) == 60.0
