"""The script of each shell, and what bash completes by it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pipeline.cli.completion import SHELLS
from pipeline.cli.main import main
from pipeline.stages.stage_list import STAGE_NAMES

#: Completes the words that it is given, as bash does when Tab is pressed after the last.
_ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
$(complete -p dealrec | sed 's/.*-F \\([^ ]*\\).*/\\1/') dealrec "${@: -1}" "${@: -2:1}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "dealrec.bash"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.cli.completion.write_now", lambda text: path.write_text(text, encoding="utf-8"))
        assert main(["completion", "bash"]) == 0
    return path


def completed(script: Path, *words: str, folder: Path | None = None) -> set[str]:
    command = ["bash", "-c", _ASK, "bash", str(script), "dealrec", *words]
    return set(subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder).stdout.split())


def test_bash_completes_commands_options_choices_and_files(script: Path, tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").touch()
    (tmp_path / "shop-runs").mkdir()

    assert completed(script, "comp") == {"compare", "completion"}
    assert completed(script, "run", "--fr") == {"--from", "--fresh"}
    assert completed(script, "run", "shop.yaml", "--until", "") >= set(STAGE_NAMES)
    assert completed(script, "compare", "shop.yaml", "--target", "p") == {"proxy"}
    assert "shop.yaml" in completed(script, "run", "sh", folder=tmp_path)
    assert completed(script, "run", "shop.yaml", "--run-dir", "sh", folder=tmp_path) == {"shop-runs"}


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_has_its_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert "dealrec" in text
    assert "--run-dir" in text or "run-dir" in text


def test_without_shtab_the_package_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.cli.completion.find_spec", lambda name: None)
    assert main(["completion", "bash"]) == 2
    assert "pip install shtab" in capsys.readouterr().err
