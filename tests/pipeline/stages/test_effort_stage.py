"""The worker of stage effort on the shards of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cluster.errors import UserError
from cluster.progress import SilentProgress
from pipeline.engine.config import Config
from pipeline.engine.config_file import load_config
from pipeline.engine.graph import StageContext
from pipeline.engine.sample_tables import read_samples, read_titles, train_shards
from pipeline.stages.effort_candidates import Candidates
from pipeline.stages.effort_stage import EffortTask, EffortWorker, run_effort
from pipeline.stages.finetune_stage import llm_spec, lora_spec
from scoring.effort import Scope
from tests.small_run import SmallRun
from training.llm.loading import load_llm, load_tokenizer
from training.llm.lora import attach_lora
from training.llm.prompts import PromptEncoder, load_template
from training.llm.token_batches import collate
from training.llm.trunk import Trunk
from training.loops.trunk_states import CacheSettings, StateCache, TrunkStates


def test_a_share_that_is_no_sample_is_refused_before_the_llm_is_loaded(small_run: SmallRun) -> None:
    run = small_run.run
    config = load_config(str(small_run.config), ["effort.candidates=0.0001", "llm.model=/nowhere"])
    folders = {"ingest": run.child("data"), "influence": run.child("scores", "influence")}
    with pytest.raises(UserError, match=r"effort.candidates: 0.0001 of the samples is not a single one"):
        run_effort(StageContext(config, run, run.child("elsewhere"), folders, SilentProgress()))


def task_of(config: Config, scope: Scope = "last_v") -> EffortTask:
    return EffortTask(
        llm=llm_spec(config),
        lora=lora_spec(config, dropout=0.0),
        template=config.llm.template,
        max_items=config.llm.max_items,
        max_tokens=config.llm.max_tokens,
        scope=scope,
        tokens="response",
        batch_tokens=config.effort.batch_tokens,
    )


@pytest.mark.parametrize("scope", ["last_v", "all"])
def test_the_states_that_fine_tuning_needs_are_left_and_change_no_score(
    small_run: SmallRun, tmp_path: Path, scope: Scope
) -> None:
    config = load_config(str(small_run.config), ["finetune.layers=1"])
    data = small_run.run.child("data")
    titles, task = read_titles(data), task_of(config, scope)
    cache = CacheSettings(str(tmp_path))
    plain = EffortWorker(task, data, titles, None)
    parted = EffortWorker(replace(task, cache=cache), data, titles, None)
    table, _ = parted(0)
    wanted = plain(0)[0].column("effort").to_numpy()
    assert wanted.std() > 0
    np.testing.assert_allclose(table.column("effort").to_numpy(), wanted, rtol=1e-3)
    model = attach_lora(load_llm(task.llm, "cpu"), replace(task.lora, dropout=0.1))
    tuning = TrunkStates(Trunk(model, 1), StateCache(cache, 1), torch.device("cpu"))
    samples = read_samples(data, 0)
    encoder = PromptEncoder(
        load_tokenizer(task.llm), load_template(task.template), titles, task.max_items, task.max_tokens
    )
    encoded = [
        encoder.encode(samples.history.row(row).tolist(), int(samples.target[row])) for row in range(len(samples))
    ]
    kept = tuning.of(collate(encoded, 0))
    assert tuning.computed == 0
    fresh = TrunkStates(Trunk(model, 1), StateCache(CacheSettings(), 1), torch.device("cpu"))
    assert torch.equal(fresh.of(collate(encoded, 0)), kept)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_candidates_alone_get_a_score(small_run: SmallRun, share: float) -> None:
    config = load_config(str(small_run.config))
    data, influence = small_run.run.child("data"), small_run.run.child("scores", "influence")
    indices = train_shards(data)
    scores = [influence.read_table(f"part-{i:05d}.parquet").column("influence").to_numpy() for i in indices]
    candidates = Candidates.over(influence, len(indices), share)
    task = task_of(config)
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
