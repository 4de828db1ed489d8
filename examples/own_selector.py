"""A selector of one's own, compared with a random draw.

    python examples/own_selector.py [RUN_DIR]

A selector is a class in a module that workers can import: here, this file. A config names it in the same way:
`select: {method: "own_selector:Newest"}`.
"""

import sys

import numpy as np

import dealrec


class Newest(dealrec.Selector):
    """Takes the samples whose target was chosen last."""

    features = ("timestamp",)

    def rank(self, shard: dealrec.ScoreShard) -> np.ndarray:
        assert shard.timestamp is not None
        return shard.timestamp


def main(run_dir: str) -> None:
    from own_log import read_log

    log, titles = read_log()
    found = dealrec.compare(
        {"interactions": log, "items": titles},
        samples={"per_user": "all"},
        selectors=["random", "own_selector:Newest"],
        sizes=[0.1],
        target="proxy",
        proxies=["lexical"],
        run_dir=run_dir,
        progress=True,
    )
    print(found.table().to_pandas()[["model", "selector", "samples", "ndcg", "difference", "low", "high"]])
    for sentence in found.conclusions:
        print(sentence)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/own_selector")
