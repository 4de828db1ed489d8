from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from cluster.digest import json_digest
from cluster.errors import UserError
from pipeline.engine.config_file import dump_config, json_schema, load_config, parse_config, parse_text
from pipeline.engine.fingerprint import config_part

MINIMAL = {"data": {"interactions": "log.parquet"}}


def write(folder: Path, text: str) -> str:
    path = folder / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_every_default_is_visible_and_reads_back(tmp_path: Path) -> None:
    config = parse_config(MINIMAL, "c.yaml")
    text = dump_config(config)
    values = yaml.safe_load(text)
    assert values["select"]["lambda"] == 0.5
    assert values["influence"]["curvature_samples"] == 8192
    assert values["finetune"]["lora_alpha"] == 16
    assert load_config(write(tmp_path, text)) == config


def test_overrides_are_yaml_and_leave_the_rest_alone(tmp_path: Path) -> None:
    path = write(tmp_path, "data: {interactions: a.csv}\nselect: {size: 10, seed: 3}\n")
    config = load_config(path, ["select.size=0.05", "samples.per_user=all", "data.columns.user=uid"])
    assert (config.select.size, config.select.seed) == (0.05, 3)
    assert config.samples.per_user == "all"
    assert config.data.columns.user == "uid"
    assert load_config(path, ["influence.scope=all"]).influence.scope == ("all",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {interactions: a}\nselect: {preset: paper, strata: 9}", "select: preset paper means strata: 50"),
        ("data: {interactions: a}\nselect: {preset: paper}\ninfluence: {target: valid}", "c.yaml: select.preset paper"),
        ("data: {interactions: a}\nselect: {siez: 1}", "unknown key select.siez .nearest valid key: select.size"),
        ("data: {interactions: a}\nselekt: {size: 1}", "unknown key selekt .nearest valid key: select"),
        ("data: {interactions: a}\nselect: {lamda: 1}", "nearest valid key: select.lambda"),
        ("data: {split: column}", "key data.interactions is missing"),
        ("data: {interactions: a, split: random}", "data.split must be auto, .* or column, got 'random'"),
        ("data: {interactions: a}\nselect: {size: 1.5}", "select: size must be a share below 1 or a whole number"),
        ("data: {interactions: a}\nselect: {size: yes}", "select.size must be a number, a name or a list, got true"),
        ("data: {interactions: a}\nselect: {method: best}", "select.method: 'best' is not a selector"),
        ("data: {interactions: a}\ninfluence: {damping: 0}", "influence.damping must be above 0, got 0"),
        ("data: {interactions: a}\ninfluence: {damping: .inf}", "influence.damping must be a finite number, got inf"),
        ("data: {interactions: a}\ninfluence: {tolerance: 1}", "influence.tolerance must be below 1, got 1"),
        ("data: {interactions: a}\naudit: {dampings: [.nan]}", r"audit.dampings\[0\] must be a finite number, got nan"),
        ("data: {interactions: a}\nevaluate: {decoding: beam}", r"must be free, .* likelihood, got 'beam'\. Correct"),
        ("data: {interactions: a}\nfinetune: {epochs: many}", "finetune.epochs must be a whole number, got 'many'"),
        ("data: {interactions: a}\nfinetune: {epochs: 1.5}", "finetune.epochs must be a whole number, got 1.5"),
        ("data: {interactions: a}\nfinetune: {lr: -1}", r"c.yaml: finetune.lr must be above 0, got -1\. Correct"),
        ("data: {interactions: a}\nfinetune: {zero: 4}", "finetune.zero must be at most 3, got 4"),
        ("data: {interactions: a}\nfinetune: {tokens: prompt}", "tokens must be response or all, got 'prompt'"),
        ("data: {interactions: a}\nfinetune: {activation_checkpointing: maybe}", "must be true or false, got 'maybe'"),
        ("data: {interactions: a}\nfinetune: {targets: 3}", "finetune.targets must be a list or a text, got 3"),
        ("data: {interactions: a}\nfinetune: 3", "c.yaml: finetune must be a group of keys, got 3"),
        ("data: {interactions: a}\nllm: {dtype: float64}", "dtype must be float32, bfloat16 or float16, got 'float64'"),
        ("data: {interactions: a}\nsamples: {per_user: 0}", "samples.per_user must be at least 1 or all, got 0"),
        ("data: {interactions: a}\nsamples: {per_user: x}", "samples.per_user must be a whole number or all, got 'x'"),
        ("data: {interactions: a}\nsurrogate: {epochs: 0}", "surrogate.epochs must be at least 1, got 0"),
        ("data: {interactions: a}\nsurrogate: {model: a b}", "must be sasrec, or module:builder of yours, got 'a b'"),
        ("data: {interactions: [a]}", "data.interactions must be a text, got ..a.."),
        ("data: {interactions: a}\naudit: {dampings: []}", "audit.dampings must be a list of 1 or more values, got "),
        (
            "data: {interactions: a}\ncluster: {node_groups: [{max_nodes: 1, cpus: x}, {max_nodes: 1, cpu: 2}]}",
            r"node_groups\[0\].cpus must be a whole number, got 'x'; .* key cluster.node_groups\[1\].cpu .*\[1\].cpus",
        ),
        (
            "data: {interactions: a}\nevaluate: {cutoffs: []}",
            "evaluate.cutoffs must be a list of one or more different",
        ),
        ("data: {interactions: a}\nevaluate: {cutoffs: [5, 5]}", r"one or more different values, got \[5, 5\]"),
        ("data: {interactions: a}\nevaluate: {cutoffs: [5, 0]}", r"evaluate.cutoffs\[1\] must be at least 1, got 0"),
        ("data: {interactions: a}\nevaluate: {cutoffs: [yes]}", "evaluate.cutoffs must be a list of whole numbers"),
        ("data: {interactions: a}\nevaluate: {cutoffs: all}", "evaluate.cutoffs must be a list, got 'all'"),
        ("- a\n- b", "holds no sections"),
        ("data: [", "is not YAML"),
    ],
)
def test_a_fault_names_the_file_and_the_key(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UserError, match=message) as caught:
        load_config(path)
    assert "c.yaml" in str(caught.value)


@pytest.mark.parametrize("override", ["select.size", "=3", "select..size=1", "select.size=[1"])
def test_a_bad_override_is_named(tmp_path: Path, override: str) -> None:
    with pytest.raises(UserError, match="--set"):
        load_config(write(tmp_path, "data: {interactions: a}"), [override])


def test_a_missing_file_is_named() -> None:
    with pytest.raises(UserError, match=r"nowhere.yaml does not exist"):
        load_config("nowhere.yaml")


def test_defaults_and_schema_are_those_of_earlier_runs() -> None:
    """What a run directory holds of its config is compared key by key: a moved default would refuse it."""
    config = parse_config(MINIMAL, "c.yaml")
    sections = [name for name, value in config if isinstance(value, BaseModel)]
    digests = {name: json_digest(config_part(config, (name,))) for name in sections}
    assert digests == {
        "data": "96222f6e935da39a4d7aa441c4960c0d",
        "samples": "cb33909bbfcfedd9e8ad64395ebb1d56",
        "surrogate": "7b5276754b78a99a421b3cb16145dbd6",
        "influence": "cb8be21439e42313cf3f54a83289fc1a",
        "effort": "d735c8a72c53ac1ba5a5e794f36f1e1d",
        "select": "720ab0c896a4bdd33604345b59a76321",
        "llm": "69f782b647a927bd3cad1128b22de0a4",
        "finetune": "5011f49cbb05b3ce0019d7da2a6cf1f7",
        "evaluate": "101a543a7bc1a42a4bd29f7db87aa333",
        "audit": "fcacf48a9c34fb2817585a44e34cac8d",
        "cluster": "59ff4000f0de1df0e4aae9b905ebe866",
    }
    properties = json_schema()["$defs"]
    moved = {name: _wordless(properties[name]) for name in ("FinetuneConfig", "LlmConfig", "SurrogateConfig")}
    assert json_digest(moved) == "2426149c7f13bc6eda25c00b7f2298d7"


def test_cutoffs_are_put_in_order_and_cost_no_fingerprint_at_their_default() -> None:
    named = parse_text("data: {interactions: a}\nevaluate: {cutoffs: [20, 1, 5]}", "c.yaml")
    assert named.evaluate.cutoffs == (1, 5, 20)
    assert config_part(named, ("evaluate",))["evaluate.cutoffs"] == [1, 5, 20]
    assert parse_text(dump_config(named), "c.yaml") == named
    assert parse_text("data: {interactions: a}\nevaluate: {cutoffs: 10}", "c.yaml").evaluate.cutoffs == (10,)
    same = parse_text("data: {interactions: a}\nevaluate: {cutoffs: [50, 20, 10, 5]}", "c.yaml")
    assert "evaluate.cutoffs" not in config_part(same, ("evaluate",))


def test_the_schema_knows_the_keys() -> None:
    schema = json_schema()
    assert set(schema["properties"]) >= {"data", "samples", "surrogate", "influence", "effort", "select", "llm"}
    assert "lambda" in schema["$defs"]["SelectConfig"]["properties"]


def test_a_fault_shows_no_password() -> None:
    with pytest.raises(UserError) as caught:
        parse_text("data: {interactions: x}\nselect: {size: 's3://reader:hunter2@host/log'}", "c.yaml", [])
    assert "hunter2" not in str(caught.value)
    assert "select.size must be a number" in str(caught.value)


def _wordless(schema: Any) -> Any:
    """A schema without its descriptions, which may be reworded."""
    if isinstance(schema, dict):
        worded = {key for key, value in schema.items() if key == "description" and isinstance(value, str)}
        return {key: _wordless(schema[key]) for key in schema if key not in worded}
    return [_wordless(value) for value in schema] if isinstance(schema, list) else schema
