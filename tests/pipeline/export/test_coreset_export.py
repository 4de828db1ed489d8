"""The exported files hold the text that fine-tuning is given, and load as other tools load them."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from cluster.storage import Storage
from pipeline.cli.main import main
from pipeline.engine.config_file import dump_config, load_config
from pipeline.engine.graph import Graph
from pipeline.engine.manifest import Manifest
from pipeline.engine.sample_tables import read_titles
from pipeline.stages.finetune_stage import llm_spec
from pipeline.stages.stage_list import STAGES
from tests.small_log import write_config
from tests.tiny_llm import make_tiny_llm
from training.llm.loading import load_tokenizer
from training.llm.prompts import PromptEncoder, load_template
from training.loops.examples import encode_examples

TITLES = ["Toy Story (1995)", 'The "Rock"', "千与千寻", "Heat\n</s>", "Fargo ..."]
TOOLS = "dataset_info.json"
HISTORIES = [[1, 2, 3, 4, 5], [5], [2, 3], [4, 1, 1, 2]]
TARGETS = [3, 4, 1, 2]


def complete(graph: Graph, name: str, facts: dict[str, object]) -> None:
    """Mark a stage as done with the files that are there."""
    stage = graph.stage(name)
    fingerprint = graph.fingerprint(stage)
    assert fingerprint is not None
    Manifest(name, fingerprint, f"{name} digest", [], facts, 1.0, 1).write(graph.folder(stage))


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    make_tiny_llm(tmp_path / "llm", bos=True)
    (tmp_path / "log.csv").write_text("user_id,item_id\n")
    return write_config(tmp_path, tmp_path / "log.csv", tmp_path / "llm")


@pytest.fixture
def run(tmp_path: Path, config_file: Path) -> Storage:
    """A run directory with what an export reads: data and coreset, complete."""
    run = Storage.at(tmp_path / "run")
    graph = Graph(STAGES, load_config(str(config_file), []), run)
    items = {"item_index": range(1, 6), "item_id": [f"i{k}" for k in range(1, 6)], "title": TITLES}
    run.write_table("data/items.parquet", pa.table(items))
    coreset = {
        "sample_id": pa.array([11, 12, 13, 14], pa.int64()),
        "user_id": ["a", "b", "c", "d"],
        "history": pa.array(HISTORIES, pa.list_(pa.int32())),
        "target": pa.array(TARGETS, pa.int32()),
        "score": pa.array([0.1, 0.2, 0.3, 0.4], pa.float32()),
    }
    run.write_table("coreset/coreset.parquet", pa.table(coreset))
    report = {"method": "dealrec", "seed": 0, "chosen": 4, "samples": 90, "sees_validation": False}
    run.write_json("coreset/selection.json", report)
    for name in ("ingest", "surrogate", "influence", "effort", "select"):
        complete(graph, name, {})
    return run


def trained_ids(run: Storage, config_file: Path) -> list[list[int]]:
    """What fine-tuning is given."""
    config = load_config(str(config_file), [])
    encoder = PromptEncoder(
        load_tokenizer(llm_spec(config)),
        load_template(config.llm.template),
        read_titles(run.child("data")),
        config.llm.max_items,
        config.llm.max_tokens,
    )
    ids: list[list[int]] = encode_examples(run.read_table("coreset/coreset.parquet"), encoder)["input_ids"].to_pylist()
    return ids


def test_the_exported_text_tokenizes_to_what_fine_tuning_is_given(run: Storage, config_file: Path) -> None:
    assert main(["export", str(config_file), "--run-dir", run.uri]) == 0
    tokenizer = load_tokenizer(llm_spec(load_config(str(config_file), [])))
    expected = trained_ids(run, config_file)
    out = run.child("export")
    talks = [json.loads(line)["conversations"] for line in out.read_text("sharegpt.jsonl").splitlines()]
    assert [[turn["from"] for turn in talk] for talk in talks] == [["human", "gpt"]] * 4
    chats = [json.loads(line)["messages"] for line in out.read_text("messages.jsonl").splitlines()]
    assert [[turn["role"] for turn in chat] for chat in chats] == [["user", "assistant"]] * 4
    parts = [json.loads(line) for line in out.read_text("alpaca.jsonl").splitlines()]
    assert [list(part) for part in parts] == [["instruction", "input", "output"]] * 4
    frame = "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n{output}"
    texts = {
        "parquet": out.read_table("coreset.parquet")["text"].to_pylist(),
        "sharegpt": ["".join(turn["value"] for turn in talk) for talk in talks],
        "messages": ["".join(turn["content"] for turn in chat) for chat in chats],
        "alpaca": [frame.format(**part) for part in parts],
    }
    for name, found in texts.items():
        ids = [[*tokenizer(text).input_ids, tokenizer.eos_token_id] for text in found]
        assert ids == expected, name


def test_a_run_directory_names_its_own_config(run: Storage, config_file: Path, tmp_path: Path) -> None:
    assert main(["export", run.uri]) == 2
    run.write_text("config.yaml", dump_config(load_config(str(config_file), [])))
    assert main(["export", run.uri, "--out", f"{run.uri}/elsewhere", "--format", "parquet"]) == 0
    assert run.child("elsewhere").list() == ["README.md", "coreset.parquet", "dataset_info.json"]


def test_the_folder_describes_itself(run: Storage, config_file: Path) -> None:
    assert main(["export", str(config_file), "--run-dir", run.uri, "--out", f"{run.uri}/elsewhere"]) == 0
    out = run.child("elsewhere")
    info = out.read_json("dataset_info.json")
    assert info["dealrec_sharegpt"]["columns"] == {"messages": "conversations"}
    for entry in info.values():
        rows = [json.loads(line) for line in out.read_text(entry["file_name"]).splitlines()]
        assert set(entry["columns"].values()) == set(rows[0])
    _, front, body = out.read_text("README.md").split("---\n", 2)
    files = [entry["data_files"] for entry in yaml.safe_load(front)["configs"]]
    assert all(out.exists(file) for file in files)
    # One reader opens all configurations of a folder.
    assert files == ["alpaca.jsonl", "sharegpt.jsonl", "messages.jsonl", "completions.jsonl"]
    assert 'load_dataset("parquet", data_files="coreset.parquet")' in body
    for fact in ("4 of 90", "dealrec, seed 0", "select digest", "ingest digest"):
        assert fact in body
    assert str(Path(run.uri).parent) not in body
    table = out.read_table("coreset.parquet")
    assert table["target"].to_pylist() == ["i3", "i4", "i1", "i2"]
    assert table["history"].to_pylist() == [[f"i{item}" for item in history] for history in HISTORIES]
    assert table["sample_id"].to_pylist() == [11, 12, 13, 14]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--run-dir", "NOWHERE"], "holds no coreset"),
        (["--run-dir", "RUN", "--format", "csv"], "no format csv"),
        (["--run-dir", "RUN", "--set", "select.seed=5"], "select.seed was 0, is 5"),
        (["--run-dir", "RUN", "--out", "RUN/coreset"], "holds files of something else"),
    ],
)
def test_what_cannot_be_exported_is_the_users_fault(
    run: Storage, config_file: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    places = [word.replace("NOWHERE", f"{run.uri}-none").replace("RUN", run.uri) for word in arguments]
    assert main(["export", str(config_file), *places]) == 2
    assert words in capsys.readouterr().err
    assert run.child("coreset").list() == ["_manifest.json", "coreset.parquet", "selection.json"]
    assert not run.exists("export")
    assert not Path(f"{run.uri}-none").exists()


def test_what_is_not_an_export_is_not_replaced(
    run: Storage, config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run.child("project")
    command = ["export", str(config_file), "--run-dir", run.uri, "--out", out.uri]
    for foreign in ({"README.md": "mine"}, {"README.md": "mine", TOOLS: '{"alpaca_en": {}}'}, {"_begun.json": "{}"}):
        for name, text in foreign.items():
            out.write_text(name, text)
        assert main(command) == 2
        assert "Name a folder of its own" in capsys.readouterr().err
        assert {name: out.read_text(name) for name in out.list()} == foreign
        for name in foreign:
            out.delete(name)
    # An export is, also one that was cut short.
    assert main(command) == 0
    out.delete("README.md")
    assert main(command) == 0
