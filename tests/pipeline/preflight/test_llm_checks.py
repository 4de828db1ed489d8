"""Faults of the LLM are reported before Ray starts, by `run` and `doctor` alike."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.machine_checks import Finding
from pipeline.cli.main import main
from pipeline.engine.config import Config
from pipeline.preflight.before_run import CONFIG_CHECKS
from pipeline.preflight.checks import Subject, findings
from tests.small_log import write_config, write_log
from tests.tiny_llm import make_tiny_llm

LLM_STAGES = ("effort", "finetune", "evaluate")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llm(tmp_path_factory.mktemp("llm") / "whole")


@pytest.fixture
def llm(whole: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    shutil.copytree(whole, tmp_path / "llm")
    return tmp_path / "llm"


def lacks(model: Path | str, stages: tuple[str, ...] = LLM_STAGES, /, **sections: Any) -> list[Finding]:
    values: dict[str, Any] = {"data": {"interactions": "-"}, **sections}
    values["llm"] = {"model": str(model), "dtype": "float32", "template": "movies", **sections.get("llm", {})}
    subject = Subject(Config.model_validate(values), stages)
    return [finding for finding in findings(CONFIG_CHECKS, subject) if finding.lack]


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_a_whole_model_lacks_nothing(whole: Path) -> None:
    assert lacks(whole) == []


def drop_weights(llm: Path) -> None:
    (llm / "model.safetensors").rename(llm / "pytorch_model.bin")


def adapter_alone(llm: Path) -> None:
    (llm / "config.json").rename(llm / "adapter_config.json")


def drop_tokenizer(llm: Path) -> None:
    for file in llm.glob("tokenizer*"):
        file.unlink()


def pointer(llm: Path) -> None:
    (llm / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def cut_short(llm: Path) -> None:
    data = (llm / "model.safetensors").read_bytes()
    (llm / "model.safetensors").write_bytes(data[: len(data) // 2])


def one_shard_of_two(llm: Path) -> None:
    (llm / "model.safetensors").rename(llm / "model-00001-of-00002.safetensors")
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (llm / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def no_end(llm: Path) -> None:
    change(llm / "tokenizer_config.json", eos_token=None)


def unknown_architecture(llm: Path) -> None:
    change(llm / "config.json", model_type="nothing_known")


@pytest.mark.parametrize(
    ("spoil", "lack", "remedy"),
    [
        (drop_weights, "only pytorch_model.bin, a pickle. Pickles are refused", "save_pretrained"),
        (adapter_alone, "holds an adapter, not a model", "merge_and_unload"),
        (drop_tokenizer, "holds no tokenizer", "save_pretrained"),
        (pointer, "model.safetensors cannot be read as safetensors", "git lfs pull"),
        (cut_short, "model.safetensors cannot be read as safetensors", "Copy it again"),
        (one_shard_of_two, "lacks model-00002-of-00002.safetensors", "Copy the whole folder"),
        (no_end, "has no end-of-sequence token", "llm.model"),
        (unknown_architecture, "configuration of", "llm.model"),
    ],
)
def test_a_folder_with_a_part_of_a_model_is_told_once(llm: Path, spoil: Any, lack: str, remedy: str) -> None:
    spoil(llm)
    found = [finding for finding in lacks(llm) if lack in finding.lack]
    assert len(found) == 1
    assert remedy in found[0].remedy
    assert lacks(llm, ("surrogate", "influence")) == []


@pytest.mark.parametrize(
    ("model", "lack"),
    [
        ("someone/no-such-model", "is not a folder, its weights are not in this machine's cache"),
        ("models/of/mine", "is neither a folder here nor the name of a model on a hub"),
        ("/nowhere/llm", "does not exist"),
        ("./nowhere.gguf", "does not exist"),
    ],
)
def test_a_model_that_cannot_be_had_is_told_once(model: str, lack: str) -> None:
    found = lacks(model)
    assert [lack in finding.lack for finding in found] == [True]
    assert "folder" in found[0].remedy


@pytest.mark.parametrize(
    ("sections", "lack"),
    [
        ({"llm": {"max_tokens": 64}}, "and the template takes"),
        ({"llm": {"max_tokens": 256, "max_title_tokens": 8}}, "llm.max_title_tokens is 8"),
        ({"llm": {"max_tokens": 256, "max_title_tokens": 128}}, "llm.max_title_tokens is 128"),
        ({"llm": {"max_tokens": 1024}}, "reads at most 512 tokens"),
        ({"llm": {"max_tokens": 512}, "evaluate": {"max_new_tokens": 200}}, "evaluate.max_new_tokens is 200"),
        ({"finetune": {"targets": ["no_proj"]}}, "finetune.targets: no module of the model matches no_proj"),
        ({"finetune": {"targets": ["q_proj"]}}, "effort.scope last_v is incompatible with finetune.targets"),
        ({"llm": {"template": {"layout": "chat"}}}, "has no chat template"),
    ],
)
def test_what_does_not_go_with_the_model_is_told(whole: Path, sections: dict[str, Any], lack: str) -> None:
    found = lacks(whole, **sections)
    assert [lack in finding.lack for finding in found] == [True]
    assert found[0].remedy


def test_a_larger_model_is_asked_for_its_targets_without_being_loaded(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=0))
    monkeypatch.setattr("training.llm.loading.load_llm", lambda *_: pytest.fail("it is loaded"))
    assert lacks(whole) == []
    assert lacks(whole, finetune={"targets": ["q_proj", "v_proj"]}) == []
    found = lacks(whole, finetune={"targets": ["no_proj"]})
    assert ["no module of the model matches no_proj" in finding.lack for finding in found] == [True]


NEEDS_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ raise_exception('A system message must come first') }}{% endif %}"
    "{% for m in messages %}{{ m['content'] }}{% endfor %}"
)


@pytest.mark.parametrize("command", ["run", "doctor"])
def test_run_and_doctor_tell_all_faults_at_once_before_ray_starts(
    llm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    (llm / "chat_template.jinja").write_text(NEEDS_SYSTEM)
    log = write_log(tmp_path / "log.parquet")
    config = write_config(
        tmp_path,
        log,
        llm,
        llm={"template": {"layout": "chat"}},
        finetune={"targets": ["no_proj"]},
        influence={"scope": ["nothing"]},
    )
    monkeypatch.setattr("cluster.session.connect", lambda *_: pytest.fail("Ray is started"))
    assert main([command, str(config), "--run-dir", str(tmp_path / "run")]) == 2
    said = "".join(capsys.readouterr())
    for words in ("A system message must come first", "matches no_proj", "influence.scope: no parameter"):
        assert said.count(words) == 1
    assert "Traceback" not in said
    assert not (tmp_path / "run" / "data").exists()
