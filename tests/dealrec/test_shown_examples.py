"""The scripts and the notebook of `examples/` run as they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.project_root import PROJECT_ROOT

EXAMPLES = PROJECT_ROOT / "examples"


def run_script(name: str, folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    command = [sys.executable, str(EXAMPLES / name), "run"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_log_of_ones_own_becomes_a_coreset(tmp_path: Path) -> None:
    shown = run_script("own_log.py", tmp_path)
    assert "target_title" in shown
    assert f"samples of 1600 interactions in {tmp_path / 'run'}" in shown


@pytest.mark.slow
def test_a_selector_of_ones_own_is_compared(tmp_path: Path) -> None:
    shown = run_script("own_selector.py", tmp_path)
    assert "own_selector:Newest" in shown
    assert "random" in shown


def test_the_notebook_is_kept_without_outputs() -> None:
    notebook = json.loads((EXAMPLES / "quickstart.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.slow
def test_the_notebook_runs_and_shows_progress_in_one_display(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(PROJECT_ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=900, kernel_name="python3", resources=resources).execute()
    runs = next(cell for cell in notebook.cells if "run = dealrec.run(" in cell.source)
    (progress,) = (output for output in runs.outputs if output.output_type == "display_data")
    lines = progress.data["text/plain"].splitlines()
    assert any(line.startswith("surrogate") for line in lines)
    assert not any("\x1b" in line for line in lines)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not [output for output in outputs if output.get("name") == "stderr"]
