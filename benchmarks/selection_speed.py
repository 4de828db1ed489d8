"""Time and peak memory of selection over synthetic scores, from one million to a hundred million.

The claim: the driver's memory depends on the coreset and the strata, not on the log. Each count runs in its own
process, so that its peak is its own. Shards are generated from a seed in every pass instead of being read; the time for
that is printed separately, and the memory before selection is the baseline.

    python -m benchmarks.selection_speed --samples 1000000 10000000 --size 20000
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scoring.ragged import Ragged
from scoring.reference import Reference, ReferenceShard
from scoring.selection import FULL, METHODS, ScoreShard, SelectionParams, select, selector

SHARD = 500_000
ITEMS = 100_000
HISTORY = 5
EMBEDDING = 32
#: Samples of the reference period that aimed selectors use, all in one shard.
REFERENCE = 50_000
#: All selectors except the one that keeps every sample.
SELECTORS = [name for name in METHODS if name != FULL]


def shard_of(index: int, rows: int, features: Sequence[str]) -> ScoreShard:
    """Generate shard `index`: heavy-tailed influence, log-normal effort, one row in a hundred without a score."""
    generator = np.random.default_rng(index)
    influence = generator.standard_normal(rows, dtype=np.float32) / (generator.random(rows, dtype=np.float32) + 0.05)
    effort = np.exp(generator.standard_normal(rows, dtype=np.float32))
    ok = generator.random(rows, dtype=np.float32) >= 0.01
    ids = np.arange(index * SHARD, index * SHARD + rows, dtype=np.int64)
    made: dict[str, Callable[[], Any]] = {
        "target": lambda: items(generator, rows),
        "history": lambda: histories(generator, rows),
        "user": lambda: ids // 10,
        "timestamp": lambda: ids.astype(np.float64),
        "embedding": lambda: embeddings(generator, rows),
    }
    columns = {"el2n": effort, "grand": effort}
    return ScoreShard(ids, influence, effort, ok, columns, **{feature: made[feature]() for feature in features})


def items(generator: np.random.Generator, count: int) -> npt.NDArray[np.int32]:
    """Draw item indices, with low ones far more frequent."""
    return (1 + ITEMS * generator.random(count) ** 3).astype(np.int32)


def histories(generator: np.random.Generator, count: int) -> Ragged:
    return Ragged(items(generator, count * HISTORY), np.arange(count + 1, dtype=np.int64) * HISTORY)


def embeddings(generator: np.random.Generator, count: int) -> npt.NDArray[np.float32]:
    return generator.standard_normal((count, EMBEDDING), dtype=np.float32)


def shards(samples: int, features: Sequence[str]) -> Iterator[ScoreShard]:
    for index, start in enumerate(range(0, samples, SHARD)):
        yield shard_of(index, min(SHARD, samples - start), features)


def reference() -> Reference:
    """Return the reference of aimed selectors, whose items have another order of frequency."""
    generator = np.random.default_rng(2**32)
    rows = np.arange(REFERENCE)
    target = (1 + items(generator, REFERENCE) * 7 % ITEMS).astype(np.int32)
    shard = ReferenceShard(rows + 2**40, histories(generator, REFERENCE), rows, target, rows)
    return Reference(lambda: iter([shard]), REFERENCE, lambda history, target: embeddings(generator, len(target)))


def measure(samples: int, size: int, method: str, normalise: str) -> dict[str, float]:
    """Return seconds, passes, seconds spent generating shards, and MiB at the peak and before."""
    passes, needed = 0, selector(method)

    def begin() -> Iterator[ScoreShard]:
        nonlocal passes
        passes += 1
        return shards(samples, needed.features)

    start = time.perf_counter()
    for _ in shards(samples, needed.features):
        pass
    making, before = time.perf_counter() - start, peak_mib()
    start = time.perf_counter()
    settings = {"normalise": normalise} if "normalise" in needed.Settings.names() else {}
    aim = reference() if needed.sees_validation else None
    chosen = select(begin, SelectionParams(method, size, settings=settings), aim)
    seconds = time.perf_counter() - start
    return {
        "samples": samples,
        "chosen": len(chosen.sample_id),
        "passes": passes,
        "seconds": seconds,
        "of which making": making * passes,
        "peak MiB": peak_mib(),
        "before MiB": before,
    }


def peak_mib() -> float:
    """Return the peak resident memory of this process so far (Linux counts kibibytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[1_000_000, 10_000_000, 100_000_000])
    parser.add_argument("--size", type=int, default=20_000, help="number of samples in the coreset")
    parser.add_argument("--method", choices=SELECTORS, default="dealrec")
    parser.add_argument("--normalise", choices=["minmax", "robust", "rank"], default="minmax")
    parser.add_argument("--one", action="store_true", help="measure one count in this process and print JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.samples[0], options.size, options.method, options.normalise)))
        return
    print(f"{options.method}, {options.normalise}, a coreset of {options.size:,}, shards of {SHARD:,}")
    for position, samples in enumerate(options.samples):
        command = [sys.executable, "-m", "benchmarks.selection_speed", "--one", "--samples", str(samples)]
        command += ["--size", str(options.size), "--method", options.method, "--normalise", options.normalise]
        root = Path(__file__).resolve().parent.parent
        answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
        row = json.loads(answer.stdout)
        if not position:
            print("  ".join(f"{name:>15}" for name in row))
        print("  ".join(f"{value:>15,.1f}" if isinstance(value, float) else f"{value:>15,}" for value in row.values()))


if __name__ == "__main__":
    main()
