"""What a coreset costs before tuning: the passes that its selector reads, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.progress import SilentProgress
from cluster.storage import Storage
from pipeline.engine.config_file import parse_config
from pipeline.engine.graph import StageContext
from pipeline.engine.manifest import Fingerprint, Manifest
from pipeline.stages.stage_list import SHARED_STAGES
from pipeline.stages.surrogate_features import feature_folder, seconds_kept
from pipeline.studies.compare.arms import Arm, arm_config
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
    config = arm_config(CONFIG, Arm("el2n", 8, 0))
    folders = {stage: run.child(name) for stage, name in (("ingest", "data"), ("surrogate", "surrogate"))}
    context = StageContext(config, run, run, folders, SilentProgress())
    out = feature_folder(context, "el2n", {"version": 1})
    with pytest.raises(KeyboardInterrupt), seconds_kept(out):
        raise KeyboardInterrupt
    first = scoring_seconds(config, run) - 10.0
    assert first > 0
    out.write_json("_seconds.json", 7.0)
    with seconds_kept(out):
        pass
    assert scoring_seconds(config, run) > 17.0
