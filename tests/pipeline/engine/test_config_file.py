import json
from pathlib import Path

import pytest
import yaml

from cluster.errors import UserError
from pipeline.engine.config_file import dump_config, json_schema, load_config, parse_config

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
        ("data: {interactions: a}\nselect: {preset: paper, strata: 9}", "key select: preset paper means strata: 50"),
        ("data: {interactions: a}\nselect: {preset: paper}\ninfluence: {target: valid}", "c.yaml: select.preset paper"),
        ("data: {interactions: a}\nselect: {siez: 1}", "unknown key select.siez .nearest valid key: select.size"),
        ("data: {interactions: a}\nselekt: {size: 1}", "unknown key selekt .nearest valid key: select"),
        ("data: {interactions: a}\nselect: {lamda: 1}", "nearest valid key: select.lambda"),
        ("data: {split: column}", "key data.interactions is missing"),
        ("data: {interactions: a, split: random}", "key data.split: .* .got 'random'"),
        ("data: {interactions: a}\nselect: {size: 1.5}", "key select: size is a share below 1 or a whole number"),
        ("data: {interactions: a}\nselect: {size: yes}", "key select.size: a number, .* .got True"),
        ("data: {interactions: a}\nselect: {method: best}", "key select.method: 'best' is not a selector"),
        ("data: {interactions: a}\ninfluence: {damping: 0}", "key influence.damping"),
        ("data: {interactions: a}\ninfluence: {damping: .inf}", "key influence.damping"),
        ("data: {interactions: a}\ninfluence: {tolerance: 1}", "key influence.tolerance"),
        ("data: {interactions: a}\naudit: {dampings: [.nan]}", "key audit.dampings"),
        ("data: {interactions: a}\nfinetune: {epochs: many}", "key finetune.epochs"),
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


def test_the_schema_knows_the_keys() -> None:
    schema = json.loads(json_schema())
    assert set(schema["properties"]) >= {"data", "samples", "surrogate", "influence", "effort", "select", "llm"}
    assert "lambda" in schema["$defs"]["SelectConfig"]["properties"]
