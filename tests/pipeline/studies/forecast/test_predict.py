"""A plan of a small log, measured by real runs on a share of it, against the run itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.cli.main import main
from pipeline.stages.stage_list import STAGE_NAMES
from tests.small_log import small_log, write_config, write_log
from tests.tiny_llm import make_tiny_llm


@pytest.mark.slow
def test_a_plan_leaves_the_run_alone_and_goes_on_from_its_share(
    ray_local: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = write_log(tmp_path / "log.parquet", small_log(users=400))
    config = write_config(
        tmp_path,
        log,
        make_tiny_llm(tmp_path / "llm"),
        select={"size": 0.5},
        cluster={"cpu_price": 3600.0},
    )
    command = ["plan", str(config), "--run-dir", str(tmp_path / "run"), "--users", "300", "--json"]
    assert main(command) == 0
    plan = json.loads(capsys.readouterr().out)

    assert [row["stage"] for row in plan["stages"]] == list(STAGE_NAMES)
    assert plan["log"]["users"] == 400
    assert plan["log"]["interactions"] == small_log(users=400).num_rows
    assert plan["total"]["dominating"] in STAGE_NAMES
    stages = {row["stage"]: row for row in plan["stages"]}
    # Selection and the report may round to zero seconds; stages that train, score or generate may not.
    assert all(stages[name]["seconds"] > 0 for name in STAGE_NAMES if name not in ("select", "report"))
    scored = stages["effort"]
    assert all(stages[name]["memory GiB"] > 0.1 for name in STAGE_NAMES)
    # One worker at a price of 3,600 per hour.
    assert scored["cost"] == pytest.approx(scored["seconds"], abs=0.02)
    assert not (tmp_path / "run" / "data").exists()

    # The rates are kept, so a second plan measures nothing.
    assert main([*command, "--set", "finetune.epochs=9"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["share"] == plan["share"]
    steps = [{row["stage"]: row["seconds"] for row in each["stages"]}["finetune"] for each in (plan, again)]
    assert steps[1] > steps[0]
