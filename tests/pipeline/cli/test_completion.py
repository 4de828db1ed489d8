"""The script of each shell, and what the shell completes by it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.cli.completion import SHELLS
from pipeline.cli.main import main
from pipeline.stages.stage_list import COMMAND_STAGE_NAMES, STAGE_NAMES

#: Completes the words that it is given, as bash does when Tab is pressed after the last.
_ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
$(complete -p dealrec | sed 's/.*-F \\([^ ]*\\).*/\\1/') dealrec "${@: -1}" "${@: -2:1}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


#: Prints what an interactive zsh shows after a line and two presses of Tab; the marks tell when it is through.
_ASK_ZSH = """
zmodload zsh/zpty
zpty -b z zsh -f -i
zpty -w z 'PS1=""; autoload -Uz compinit; compinit -u -D; setopt no_beep'
zpty -w z 'mark() { print -r -- "MARK""ED" }; zle -N mark; bindkey "^X" mark'
zpty -w z "$1"'; echo "READ""Y"'
zpty -r z out '*READY*'
zpty -n -w z "$2"$'\\t\\t\\x18'
zpty -r z out '*MARKED*'
print -r -- "$out"
zpty -d z
"""
#: What a terminal takes as a command and not as text.
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("completion")
    paths = {shell: folder / f"dealrec.{shell}" for shell in SHELLS}
    for shell, path in paths.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pipeline.cli.completion.write_now", lambda text, to=path: to.write_text(text))
            assert main(["completion", shell]) == 0
    return paths


@pytest.fixture
def script(scripts: dict[str, Path]) -> Path:
    return scripts["bash"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.yaml").touch()
    (tmp_path / "shop-runs").mkdir()
    return tmp_path


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed")


def completed(script: Path, *words: str, folder: Path | None = None) -> set[str]:
    command = ["bash", "-c", _ASK, "bash", str(script), "dealrec", *words]
    return set(subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder).stdout.split())


def test_bash_completes_commands_options_choices_and_files(script: Path, folder: Path) -> None:
    assert completed(script, "comp") == {"compare", "completion"}
    assert completed(script, "run", "--fr") == {"--from", "--fresh"}
    assert completed(script, "run", "shop.yaml", "--until", "") >= set(STAGE_NAMES)
    assert completed(script, "compare", "shop.yaml", "--target", "p") == {"proxy"}
    assert "shop.yaml" in completed(script, "run", "sh", folder=folder)
    assert completed(script, "run", "shop.yaml", "--run-dir", "sh", folder=folder) == {"shop-runs"}


@needs("fish")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("dealrec comp", {"compare", "completion"}),
        ("dealrec run --fr", {"--from", "--fresh"}),
        ("dealrec run shop.yaml --until ", set(COMMAND_STAGE_NAMES)),
        ("dealrec compare shop.yaml --target p", {"proxy"}),
        ("dealrec run sh", {"shop.yaml", "shop-runs/"}),
        ("dealrec run shop.yaml --run-dir sh", {"shop-runs/"}),
    ],
)
def test_fish_completes_commands_options_choices_and_files(
    scripts: dict[str, Path], folder: Path, line: str, words: set[str]
) -> None:
    command = ["fish", "--no-config", "-c", "source $argv[1]; complete -C $argv[2]", str(scripts["fish"]), line]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder).stdout
    assert {row.split("\t")[0] for row in shown.splitlines()} == words


@needs("zsh")
@pytest.mark.parametrize("how", ["source {}", "source <(cat {})", 'eval "$(cat {})"'])
def test_zsh_reads_the_script_however_it_is_given(scripts: dict[str, Path], folder: Path, how: str) -> None:
    shown = zsh(how.format(scripts["zsh"]), "dealrec comp", folder)
    assert "compare " in shown
    assert "completion " in shown
    assert "export" not in shown


@needs("zsh")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("dealrec run --fr", {"--from", "--fresh"}),
        ("dealrec run shop.yaml --until ", set(COMMAND_STAGE_NAMES)),
        ("dealrec compare shop.yaml --target p", {"proxy"}),
        ("dealrec run sh", {"shop.yaml", "shop-runs/"}),
        ("dealrec run shop.yaml --run-dir sh", {"shop-runs/"}),
    ],
)
def test_zsh_completes_options_choices_and_files(
    scripts: dict[str, Path], folder: Path, line: str, words: set[str]
) -> None:
    shown = zsh(f"source {scripts['zsh']}", line, folder)
    assert words <= set(shown.split())


def zsh(read: str, line: str, folder: Path) -> str:
    """Return what zsh shows after a line and Tab, once it has read the script."""
    command = ["zsh", "-f", "-c", _ASK_ZSH, "zsh", read, line]
    terminal = {**os.environ, "TERM": "vt100"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder, timeout=120, env=terminal)
    # The terminal is slow: it is given time by characters that it does not show.
    return _ESCAPES.sub("", done.stdout).replace("\0", "").replace("MARKED", " ")


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
