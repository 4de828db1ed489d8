import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.cli.main import main
from tests.killing import ROOT
from tests.small_log import small_log, write_log
from tests.tiny_llm import make_tiny_llm


def run(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> tuple[int, str]:
    code = main(arguments)
    return code, capsys.readouterr().err


def config_file(folder: Path, **sections: dict[str, object]) -> str:
    log = write_log(folder / "log.parquet")
    values: dict[str, dict[str, object]] = {
        "data": {"interactions": str(log), "split": "leave_one_out"},
        "llm": {"model": str(make_tiny_llm(folder / "tiny")), "dtype": "float32"},
    }
    for name, keys in sections.items():
        values[name] = {**values.get(name, {}), **keys}
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump(values))
    return str(path)


def one_message(text: str) -> str:
    """The error line; nothing else but progress may be there, and no traceback."""
    assert "Traceback" not in text
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"data": {"interactions": "/nowhere/log.csv"}}, ["data.interactions", "/nowhere/log.csv does not exist"]),
        ({"select": {"sizes": 3}}, ["select.sizes", "select.size"]),
        ({"select": {"size": -1}}, ["select.size"]),
        ({"llm": {"template": "movie"}}, ["llm.template", "movies"]),
        ({"llm": {"model": "./nowhere"}}, ["llm.model", "./nowhere does not exist"]),
        (
            {"finetune": {"zero": 2, "offload": "all"}},
            ["finetune.offload must be none or optimizer", "if finetune.zero is 2"],
        ),
        ({"finetune": {"workers": 9, "global_batch": 8}}, ["finetune.workers", "at most finetune.global_batch"]),
        ({"cluster": {"gpus": 3}}, ["cluster.gpus asks for 3", "Set cluster.gpus to 0"]),
    ],
)
def test_the_users_fault_is_two_and_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sections: dict[str, dict[str, object]], words: list[str]
) -> None:
    config = config_file(tmp_path, **sections)
    code, text = run(capsys, ["run", config, "--run-dir", str(tmp_path / "run")])
    assert code == 2
    message = one_message(text)
    assert all(word in message for word in words)


def test_a_missing_compiler_is_found_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_file(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    code, text = run(capsys, ["run", config, "--run-dir", str(tmp_path / "run")])
    assert code == 2
    assert "g++ is missing on this machine" in one_message(text)
    assert not (tmp_path / "run" / "data").exists()


def test_a_run_directory_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_file(tmp_path)
    (tmp_path / "file").write_text("")
    code, text = run(capsys, ["run", config, "--run-dir", str(tmp_path / "file" / "run")])
    assert code == 2
    assert "cannot be written" in one_message(text)
    assert "--run-dir" in one_message(text)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop_columns(["user_id"]), ["data.columns.user"]),
        (lambda t: t.slice(0, 0), ["log"]),
        (lambda t: t.set_column(0, "user_id", pa.array([None] * t.num_rows, pa.string())), ["user_id"]),
        (lambda t: t.set_column(2, "title", pa.array([None] * t.num_rows, pa.string())), ["title", "missing_title"]),
    ],
    ids=["missing column", "empty", "null ids", "no titles"],
)
def test_a_bad_log_leaves_nothing_half_written(
    ray_local: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: object, words: list[str]
) -> None:
    config = config_file(tmp_path)
    assert callable(change)
    pq.write_table(change(small_log()), tmp_path / "log.parquet")
    code, text = run(capsys, ["ingest", config, "--run-dir", str(tmp_path / "run")])
    assert code == 2
    message = one_message(text)
    assert all(word in message for word in words)
    assert not list((tmp_path / "run" / "data").glob("**/*.parquet"))


def test_ingest_tells_what_was_kept_and_dropped(
    ray_local: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = small_log()
    config = config_file(tmp_path, data={"min_interactions": {"user": 6}})
    pq.write_table(pa.concat_tables([log, log.slice(0, 7)]), tmp_path / "log.parquet")
    assert main(["ingest", config, "--run-dir", str(tmp_path / "run"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    rows = {row["interactions"]: row["count"] for row in result["interactions"]}
    lengths = Counter(log["user_id"].to_pylist())
    assert rows["read"] == log.num_rows + 7 == sum(count for name, count in rows.items() if name != "read")
    assert rows["dropped: duplicate"] == 7
    assert rows["dropped: min interactions"] == sum(length for length in lengths.values() if length < 6) > 0
    assert result["statistics"]["users"] == sum(length >= 6 for length in lengths.values())
    assert any("leave_one_out" in warning for warning in result["statistics"]["warnings"])


def test_a_pickle_is_refused_unread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pickle

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "exploded",)  # type: ignore[return-value]

    (tmp_path / "log.pkl").write_bytes(pickle.dumps(Bomb()))
    config = config_file(tmp_path, data={"interactions": str(tmp_path / "log.pkl")})
    code, text = run(capsys, ["ingest", config, "--run-dir", str(tmp_path / "run")])
    assert code == 2
    assert "ickle" in one_message(text)
    assert not (tmp_path / "exploded").exists()


def test_a_stage_before_its_time_says_what_to_run(
    ray_local: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = run(capsys, ["select", config_file(tmp_path), "--run-dir", str(tmp_path / "run")])
    assert code == 2
    assert "dealrec ingest CONFIG" in one_message(text)


def test_doctor_says_what_there_is_and_who_gets_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_file(tmp_path, cluster={"cpus": 4, "gpus": 0}, finetune={"workers": 3})
    assert main(["doctor", config, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    machine = {"memory", "GPU", "compiler", "half precision", "storage", "workers"}
    llm = {"template", "LLM files", "tokenizer", "prompt", "LLM length", "LLM structure"}
    assert {row["what"] for row in answer["findings"]} == machine | llm | {
        "log",
        "surrogate",
        "influence",
        "fine-tuning",
        "decoding",
    }
    workers = {row["stage"]: (row["kind"], row["workers"], row["free cpus"]) for row in answer["plan"]}
    assert workers["effort"] == ("pool", 4, 0)
    assert workers["finetune"] == ("training", 3, 1)


def test_doctor_looks_at_the_run_directory_and_leaves_it_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_file(tmp_path)
    assert main(["doctor", config, "--run-dir", str(tmp_path / "new" / "run")]) == 0
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("")
    capsys.readouterr()
    assert main(["doctor", config, "--run-dir", str(tmp_path / "file" / "run")]) == 2
    assert f"{tmp_path}/file/run cannot be written" in capsys.readouterr().out


def test_doctor_of_a_cluster_that_does_not_answer_says_what_else_is_lacking(tmp_path: Path) -> None:
    """In a process of its own, since one that has a Ray stays with it."""
    config = config_file(tmp_path, cluster={"address": "127.0.0.1:1"}, llm={"template": "/nowhere.yaml"})
    command = [sys.executable, "-m", "pipeline", "doctor", config, "--json"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    lacks = {row["what"]: row["lack"] for row in json.loads(answer.stdout)["findings"]}
    assert "No Ray cluster answers at 127.0.0.1:1" in lacks["cluster"]
    assert lacks["memory"] == "-"
    assert any("/nowhere.yaml" in lack for lack in lacks.values())


def test_doctor_asks_for_a_compiler_only_where_there_is_no_gpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_file(tmp_path)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    # With a GPU that is not there, no model can be loaded.
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=0))
    for gpus, asked in (("auto", False), (0, True)):
        main(["doctor", config, "--set", f"cluster.gpus={gpus}", "--json"])
        findings = json.loads(capsys.readouterr().out)["findings"]
        assert ("compiler" in {row["what"] for row in findings}) is asked


def test_doctor_without_a_config_takes_settings_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--set", "cluster.gpus=9", "--json"]) == 2
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert any("cluster.gpus asks for 9" in row["lack"] for row in findings)
    code, text = run(capsys, ["doctor", "--set", "no.such=1"])
    assert code == 2
    assert "no.such" in one_message(text) or "unknown key no" in one_message(text)


def test_a_date_that_cannot_be_is_no_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(capsys, ["doctor", config_file(tmp_path), "--set", "select.size=2020-13-45"])
    assert code == 2
    assert "select.size=2020-13-45" in one_message(text)
    (tmp_path / "bad.yaml").write_text("data: {interactions: 2020-13-45}\n")
    code, text = run(capsys, ["doctor", str(tmp_path / "bad.yaml")])
    assert code == 2
    assert "bad.yaml is not YAML" in one_message(text)


@pytest.mark.parametrize(
    ("sections", "lack"),
    [
        ({"cluster": {"gpus": 9}}, "cluster.gpus asks for 9"),
        ({"cluster": {"cpus": 2}, "finetune": {"workers": 3}}, "finetune.workers is 3"),
        ({"cluster": {"cpus": 2, "actors": 5}}, "cluster.actors asks for 5"),
        ({"data": {"interactions": "/nowhere.csv"}}, "/nowhere.csv"),
        ({"llm": {"model": "/nowhere"}}, "llm.model: /nowhere"),
        ({"llm": {"template": "/nowhere.yaml"}}, "/nowhere.yaml"),
        ({"finetune": {"zero": 1, "offload": "all"}}, "finetune.offload"),
    ],
)
def test_doctor_finds_what_can_never_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sections: dict[str, dict[str, object]], lack: str
) -> None:
    assert main(["doctor", config_file(tmp_path, **sections), "--json"]) == 2
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert any(lack in row["lack"] and row["remedy"] != "-" for row in findings)


def test_more_tokens_than_the_model_reads_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_file(tmp_path, llm={"model": str(make_tiny_llm(tmp_path / "llm", "gpt2")), "max_tokens": 2048})
    code, text = run(capsys, ["run", config, "--run-dir", str(tmp_path / "run")])
    assert code == 2
    assert "reads at most 512 tokens" in one_message(text)


def test_doctor_lists_every_lack_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_file(
        tmp_path, data={"interactions": "/nowhere.csv"}, llm={"model": "/nowhere"}, cluster={"gpus": 9}
    )
    assert main(["doctor", config, "--json"]) == 2
    lacks = [row["lack"] for row in json.loads(capsys.readouterr().out)["findings"] if row["lack"] != "-"]
    for named in ("/nowhere.csv", "llm.model", "cluster.gpus"):
        assert any(named in lack for lack in lacks)


def test_a_relative_run_directory_is_no_place_for_a_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(capsys, ["submit", config_file(tmp_path), "--address", "http://127.0.0.1:1"])
    assert code == 2
    assert "shared storage" in one_message(text)
