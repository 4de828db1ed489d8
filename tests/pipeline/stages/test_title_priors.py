"""A run whose titles are ranked by their corrected likelihood."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cluster.storage import Storage
from pipeline.cli.main import main
from pipeline.engine.config_file import load_config
from pipeline.engine.manifest import read_manifest
from pipeline.stages.prompt_titles import llm_titles, title_encoder
from pipeline.stages.title_priors import BASE, TUNED
from tests.small_log import write_config, write_log
from tests.tiny_llm import make_tiny_llm
from training.llm.llm_spec import LLMSpec
from training.llm.loading import load_llm
from training.llm.lora import load_adapter


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(
        tmp_path,
        write_log(tmp_path / "log.parquet"),
        make_tiny_llm(tmp_path / "llm"),
        select={"method": "random"},
        surrogate={"epochs": 1},
        evaluate={"users": 20, "decoding": "likelihood", "prior_correction": 0.8},
    )


@pytest.mark.slow
def test_a_run_corrects_by_the_priors_of_both_models_and_tells_what_comes_first(
    ray_local: None, tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Storage.at(tmp_path / "run")
    assert main(["run", str(config), "--run-dir", run.uri, "--set", "evaluate.likelihood_titles=39"]) == 2
    assert "The catalogue has 40 titles, and evaluate.likelihood_titles allows 39" in capsys.readouterr().err
    assert read_manifest(run.child("surrogate")) is None

    assert main(["run", str(config), "--run-dir", run.uri]) == 0
    made = read_manifest(run.child("eval"))
    assert made is not None
    assert 0 <= made.facts["moved_by_prior"] <= 20
    first = made.facts["first_items"]
    assert set(first) == {"catalogue", *made.facts["models"]}
    assert first["catalogue"]["items"] == 40
    assert all(1 <= row["items"] <= 40 and row["title_tokens"] > 0 for row in first.values())

    settings = load_config(str(config))
    (folder,) = (tmp_path / "run" / "priors").iterdir()
    table = Storage.at(folder).read_table("part-00000.parquet")
    titles = llm_titles(settings, run.child("data")).titles
    encoder = title_encoder(settings)
    encoder.titles = titles
    model = load_llm(LLMSpec(settings.llm.model, "float32"))
    prompt = encoder.encode([]).input_ids
    adapted = load_adapter(model, str(tmp_path / "run" / "model"))
    for item in (1, 17, 40):
        response = encoder.response_ids(item)
        ids = torch.tensor([prompt + response])
        with torch.no_grad(), adapted.disable_adapter():
            base = adapted(input_ids=ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        with torch.no_grad():
            tuned = adapted(input_ids=ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        for name, log_probs in ((TUNED, tuned), (BASE, base)):
            exact = float(log_probs.gather(1, torch.tensor(response)[:, None]).sum())
            np.testing.assert_allclose(table.column(name)[item - 1].as_py(), exact, rtol=1e-4)
