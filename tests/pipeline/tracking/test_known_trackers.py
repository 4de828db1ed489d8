from pathlib import Path

import pytest

from cluster.errors import UserError
from pipeline.cli.main import main
from pipeline.engine.config_file import parse_config
from pipeline.engine.fingerprint import config_part
from pipeline.stages.stage_list import STAGES
from pipeline.tracking.known_trackers import KNOWN, require_trackers
from tests.small_log import write_config, write_log
from tests.tiny_llm import make_tiny_llm


def test_a_missing_package_is_refused_before_anything_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.tracking.known_trackers.find_spec", lambda module: None)
    config = write_config(tmp_path, write_log(tmp_path / "log.parquet"), make_tiny_llm(tmp_path / "llm"))
    arguments = ["run", str(config), "--run-dir", str(tmp_path / "run"), "--set", "track=[trackio, mlflow]"]
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert "track: trackio, mlflow are not installed" in told
    assert "pip install trackio mlflow-skinny sqlalchemy alembic" in told
    assert not (tmp_path / "run" / "data").exists()


@pytest.mark.parametrize("name", KNOWN)
def test_each_missing_package_has_its_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.tracking.known_trackers.find_spec", lambda module: None)
    with pytest.raises(UserError, match=rf"track: {name} is not installed.*pip install {KNOWN[name].install}"):
        require_trackers([name])


def test_one_name_will_do_and_an_unknown_one_is_refused() -> None:
    data = {"interactions": "x"}
    assert parse_config({"data": data}, "c").track == ()
    assert parse_config({"data": data, "track": "mlflow"}, "c").track == ("mlflow",)
    assert parse_config({"data": data, "track": ["wandb", "wandb"]}, "c").track == ("wandb",)
    for wrong in ("mlfow", [1], True, {"mlflow": 1}):
        with pytest.raises(UserError, match="track"):
            parse_config({"data": data, "track": wrong}, "c")


def test_trackers_are_in_no_fingerprint() -> None:
    data = {"interactions": "x"}
    plain, tracked = (parse_config({"data": data, "track": track}, "c") for track in ([], ["mlflow"]))
    for stage in STAGES:
        assert config_part(plain, stage.keys) == config_part(tracked, stage.keys)
