from pathlib import Path

import pytest

from pipeline.engine.config_file import parse_config
from pipeline.engine.fingerprint import code_identity, config_part, differing_keys, file_identities, model_identity

CONFIG = parse_config({"data": {"interactions": "log.parquet"}, "select": {"size": 7}}, "c")


def test_a_part_is_flat_and_holds_what_was_asked() -> None:
    part = config_part(CONFIG, ["select", "llm.max_items"])
    assert part["select.size"] == 7
    assert part["select.lambda"] == 0.5
    assert part["llm.max_items"] == 20
    assert not any(key.startswith("llm.") and key != "llm.max_items" for key in part)


def test_differences_name_both_values() -> None:
    assert differing_keys({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}) == ["b was 2, is 3", "c was 'not set', is 4"]


def test_files_that_differ_are_told_by_name() -> None:
    old = [{"name": f"part-{number}", "size": 1} for number in range(9)]
    new = [{"name": "more", "size": 1}, {"name": "part-8", "size": 2}, *old[6:8]]
    assert differing_keys({"log": old}, {"log": new}) == [
        "log has other files: 1 new (more), 6 gone (part-0, part-1, part-2 and 3 more), 1 changed (part-8)"
    ]
    assert differing_keys({"log": [old[0], old[0]]}, {"log": [old[0]]}) == ["log has other files: 2 before, 1 now"]


def test_a_file_is_known_by_its_content_not_its_folder(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "log.csv").write_text("user,item\n1,2\n")
    first = file_identities([str(tmp_path / "x" / "log.csv")])
    assert first == file_identities([str(tmp_path / "y" / "log.csv")])
    (tmp_path / "y" / "log.csv").write_text("user,item\n1,3\n")
    assert first != file_identities([str(tmp_path / "y" / "log.csv")])


def test_a_model_is_known_by_its_files_or_its_name(tmp_path: Path) -> None:
    assert model_identity("org/model") == {"name": "org/model"}
    (tmp_path / "config.json").write_text("{}")
    before = model_identity(str(tmp_path))
    (tmp_path / "config.json").write_text('{"a": 1}')
    assert model_identity(str(tmp_path)) != before


def test_code_is_known_by_its_file_and_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "some_surrogate.py").write_text("raise SystemExit")
    before = code_identity("some_surrogate")
    assert before == code_identity("some_surrogate")
    (tmp_path / "some_surrogate.py").write_text("raise SystemExit(1)")
    assert code_identity("some_surrogate") != before
    assert code_identity("nowhere.at_all") == {"module": "nowhere.at_all"}


def test_models_of_one_size_are_told_apart_by_their_weights(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    # Tuning changes a model everywhere, so sampling a large file is enough.
    for size in (1000, 20_000_000):
        weights.write_bytes(b"a" * size)
        before = model_identity(str(tmp_path)), model_identity(str(weights))
        assert before == (model_identity(str(tmp_path)), model_identity(str(weights)))
        weights.write_bytes(b"b" * size)
        assert model_identity(str(tmp_path)) != before[0]
        assert model_identity(str(weights)) != before[1]
        weights.write_bytes(b"a" * (size - 1) + b"b")
        assert model_identity(str(tmp_path)) != before[0]


def test_keys_of_the_decoding_at_their_defaults_leave_the_fingerprints_of_earlier_runs() -> None:
    part = config_part(CONFIG, ["evaluate"])
    assert part["evaluate.beams"] == 4
    assert not {"length_penalty", "prior_correction", "likelihood_titles"} & {key.split(".")[1] for key in part}
    values = {"decoding": "constrained", "length_penalty": 0.5, "prior_correction": 0.2, "likelihood_titles": 9}
    other = parse_config({"data": {"interactions": "log.parquet"}, "evaluate": values}, "c")
    part = config_part(other, ["evaluate"])
    assert part["evaluate.beams"] == 10
    assert {f"evaluate.{key}": value for key, value in values.items()}.items() <= part.items()
    assert other.evaluate.power_of_length() == 0.5
    assert [
        CONFIG.evaluate.power_of_length(),
        parse_config(
            {"data": {"interactions": "x"}, "evaluate": {"decoding": "likelihood"}}, "c"
        ).evaluate.power_of_length(),
    ] == [1.0, 0.0]
