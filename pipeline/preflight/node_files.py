"""Check the files that workers read from a path on their own node: each node must have them, and the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cluster.storage import is_remote
from pipeline.engine.fingerprint import code_identity
from pipeline.preflight.checks import Subject
from pipeline.stages.same_on_nodes import MISSING, Facts, has_cpus, same_llm, same_on_nodes
from pipeline.stages.worker_pools import gpus_per_worker


def check_log_files(subject: Subject) -> str:
    """Check the files of the log, which the tasks of ingest read, by name and size."""
    from pipeline.ingest.files.sources import find_files

    data = subject.config.data
    found = [file.name for file in find_files(data.interactions, "data.interactions", skip_suffix=".item")]
    files = [str(Path(name).absolute()) for name in found if not is_remote(name)]
    if not files:
        return "on storage that all nodes can reach"
    return same_on_nodes("data.interactions", data.interactions, _sizes, files, has_cpus)


def check_llm_files(subject: Subject) -> str:
    """Check the model's files, which every LLM worker reads, by name, size and hash; on a hub, its config."""
    unpacked = subject.run is not None and not subject.run.remote
    return same_llm(subject.config.llm.model, needs_gpu(subject), unpacked)


def needs_gpu(subject: Subject) -> bool:
    """Return whether the LLM workers get GPUs."""
    assert subject.view is not None
    return gpus_per_worker(subject.config, subject.view) > 0


def check_own_surrogate(subject: Subject) -> str:
    """Check the module of a custom surrogate, which every worker imports."""
    module = subject.config.surrogate.model.partition(":")[0]
    return same_on_nodes("surrogate.model", module, _code, module, has_cpus)


def check_own_selectors(subject: Subject) -> str:
    """Check the modules of a user's own selectors, which the workers of a comparison import."""
    found = [same_on_nodes("select.method", module, _code, module, has_cpus) for module in own_selectors(subject)]
    return "; ".join(found)


def own_selectors(subject: Subject) -> list[str]:
    """Return the modules of a comparison's selectors. A run's own selection needs none: its driver selects."""
    return sorted({section.method.partition(":")[0] for section in subject.selections if ":" in section.method})


def _sizes(files: Sequence[str]) -> Facts:
    """Return the size of each file; runs on a node."""
    try:
        return {Path(file).name if len(files) == 1 else file: Path(file).stat().st_size for file in files}
    except OSError as error:
        return {MISSING: str(error.filename)}


def _code(module: str) -> Facts:
    """Return the hash of a module's source; runs on a node."""
    found = code_identity(module)
    return {f"{module}": found["hash"]} if "hash" in found else {MISSING: f"no module {module}"}
