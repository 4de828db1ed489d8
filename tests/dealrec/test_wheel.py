"""A wheel of the project, installed in an environment of its own and started from an empty folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

from cluster.project_root import PACKAGES, PROJECT_ROOT
from tests.ray_cluster import environment, head_and_folder
from tests.small_log import write_log

pytestmark = pytest.mark.slow

_PACKAGE = """
import json
from pathlib import Path
from cluster.embedded import python_path
from cluster.job_package import job_package
from cluster.project_root import CHECKOUT
from pipeline.engine.manifest import environment
with job_package() as folder:
    names = sorted(path.name for path in Path(folder).iterdir())
    size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    template = Path(folder, "pipeline", "report", "page.html.j2").is_file()
print(json.dumps({"checkout": CHECKOUT, "path": python_path(), "names": names, "size": size, "template": template,
                  "left": Path(folder).exists(), "commit": environment()["commit"]}))
"""


_RUN = """
import dealrec
run = dealrec.run(
    {{"interactions": {log!r}, "split": "leave_one_out"}},
    samples={{"per_user": "all", "max_history": 8}},
    surrogate={{"hidden": 8, "epochs": 1}},
    influence={{"damping": 0.05, "curvature_samples": 64}},
    select={{"method": "influence", "size": 12}},
    cluster={{"cpus": 2, "actors": 1, "gpus": 0}},
    until="select",
    run_dir="run",
)
assert run.coreset().num_rows == 12
assert "site-packages" in dealrec.__file__
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # From a copy: a build leaves files in the folder that it is made in.
    source = folder / "source"
    for package in PACKAGES:
        shutil.copytree(PROJECT_ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT_ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", str(source), "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*build, "-w", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("dealrec-*.whl"))


@pytest.fixture(scope="module")
def binaries(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with the wheel and the packages of this one, but not its dealrec."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True, with_pip=False)
    python = str(folder / "bin" / "python")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", str(wheel)]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # The packages that this environment has; its own `.pth` files, an editable dealrec among them, are not read there.
    site = next((folder / "lib").glob("python*/site-packages"))
    (site / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def start(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_wheel_holds_every_package_and_data_file(wheel: Path) -> None:
    held = set(ZipFile(wheel).namelist())
    for package in PACKAGES:
        for path in (PROJECT_ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert str(path.relative_to(PROJECT_ROOT)) in held
    assert not {name.split("/")[0] for name in held} & {"tests", "benchmarks", "examples"}
    (entry_points,) = (name for name in held if name.endswith("entry_points.txt"))
    assert "dealrec = dealrec.__main__:entry" in ZipFile(wheel).read(entry_points).decode()


def test_an_installation_ships_its_own_packages_alone(binaries: Path, tmp_path: Path) -> None:
    done = start([str(binaries / "python"), "-c", _PACKAGE], tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["names"] == ["cluster", "dealrec", "pipeline", "scoring", "training"]
    assert found["size"] < 8 << 20
    assert found["template"]
    assert not found["left"]
    assert (found["checkout"], found["path"], found["commit"]) == (None, "", None)


def test_it_runs_from_an_empty_folder(binaries: Path, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    usage = start([str(binaries / "dealrec"), "--help"], folder)
    assert usage.returncode == 0, usage.stderr
    assert "compare" in usage.stdout
    log = write_log(tmp_path / "log.parquet")
    code = _RUN.format(log=str(log))
    done = start([str(binaries / "python"), "-c", code], folder)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in folder.iterdir()] == ["run"]


def test_a_job_is_submitted_from_an_empty_folder_and_ships_the_packages_alone(binaries: Path, tmp_path: Path) -> None:
    """Client, head and job have the installed wheel; none has the checkout."""
    empty, run, config = tmp_path / "empty", tmp_path / "run", tmp_path / "shop.yaml"
    empty.mkdir()
    settings = {
        "data": {"interactions": str(write_log(tmp_path / "log.parquet")), "split": "leave_one_out"},
        "surrogate": {"hidden": 8, "epochs": 1},
        "select": {"method": "random", "size": 12},
        "cluster": {"actors": 1, "gpus": 0},
    }
    config.write_text(json.dumps(settings), encoding="utf-8")
    variables = {key: value for key, value in environment().items() if key != "PYTHONPATH"}
    variables["PATH"] = os.pathsep.join([str(binaries), variables["PATH"]])
    with head_and_folder(str(binaries / "python"), variables) as (address, folder):
        submit = [str(binaries / "dealrec"), "submit", str(config), "--run-dir", str(run), "--address", address]
        done = subprocess.run(
            [*submit, "--until", "select"], cwd=empty, env=variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr + done.stdout
        (shipped,) = (
            path for path in folder.glob("session_latest/runtime_resources/working_dir_files/*") if path.is_dir()
        )
        assert {path.name for path in shipped.iterdir()} == set(PACKAGES)
        assert sum(path.stat().st_size for path in shipped.rglob("*.py")) < 8 << 20
    assert (run / "coreset" / "_manifest.json").exists()
    assert not (run / "model").exists()
    assert list(empty.iterdir()) == []
    # Ray's own lines are not the user's.
    assert "INFO" not in done.stderr
    assert "SUCCEEDED" in done.stderr
