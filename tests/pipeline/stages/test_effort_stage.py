"""The worker of stage effort on the shards of a run."""

from __future__ import annotations

import numpy as np
import pytest

from cluster.errors import UserError
from cluster.progress import SilentProgress
from pipeline.engine.config_file import load_config
from pipeline.engine.graph import StageContext
from pipeline.engine.sample_tables import read_titles, train_shards
from pipeline.stages.effort_candidates import Candidates
from pipeline.stages.effort_stage import EffortTask, EffortWorker, run_effort
from pipeline.stages.finetune_stage import llm_spec, lora_spec
from tests.small_run import SmallRun


def test_a_share_that_is_no_sample_is_refused_before_the_llm_is_loaded(small_run: SmallRun) -> None:
    run = small_run.run
    config = load_config(str(small_run.config), ["effort.candidates=0.0001", "llm.model=/nowhere"])
    folders = {"ingest": run.child("data"), "influence": run.child("scores", "influence")}
    with pytest.raises(UserError, match=r"effort.candidates: 0.0001 of the samples is not a single one"):
        run_effort(StageContext(config, run, run.child("elsewhere"), folders, SilentProgress()))


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_candidates_alone_get_a_score(small_run: SmallRun, share: float) -> None:
    config = load_config(str(small_run.config))
    data, influence = small_run.run.child("data"), small_run.run.child("scores", "influence")
    indices = train_shards(data)
    scores = [influence.read_table(f"part-{i:05d}.parquet").column("influence").to_numpy() for i in indices]
    candidates = Candidates.over(influence, len(indices), share)
    task = EffortTask(
        llm=llm_spec(config),
        lora=lora_spec(config, dropout=0.0),
        template=config.llm.template,
        max_items=config.llm.max_items,
        max_tokens=config.llm.max_tokens,
        scope="last_v",
        tokens="response",
        batch_tokens=config.effort.batch_tokens,
    )
    titles = read_titles(data)
    few, whole = EffortWorker(task, data, titles, candidates), EffortWorker(task, data, titles, None)
    drawn = 0
    for index in indices:
        table, facts = few(index)
        expected, _ = whole(index)
        ids = table.column("sample_id").to_numpy()
        chosen = candidates.rule.chosen(ids, scores[index])
        found = table.column("effort").to_numpy(zero_copy_only=False)
        assert np.array_equal(ids, expected.column("sample_id").to_numpy())
        assert np.isfinite(found).tolist() == chosen.tolist()
        np.testing.assert_allclose(found[chosen], expected.column("effort").to_numpy()[chosen], rtol=1e-4)
        assert [status == "skipped" for status in table.column("status").to_pylist()] == (~chosen).tolist()
        assert facts["scored"] == chosen.sum()
        drawn += int(chosen.sum())
    total = sum(map(len, scores))
    assert drawn == total if share == 1.0 else 0 < drawn < total
