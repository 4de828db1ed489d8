"""Influence scores against a literal implementation of the paper: v, LiSSA on single samples, a loop over samples.

    python -m benchmarks.influence_speed --interactions LOG --items CATALOGUE --split column

The reference processes one sample at a time with autograd, padded to the longest history: one gradient per sample for
v, a double backward pass per LiSSA step, and one gradient and inner product per score. Ours is what the stage's workers
compute, in one process with the same number of threads; `benchmarks.scoring_pool` measures the cost of Ray and the
files. Both score the same samples with the same surrogate and scope, and the agreement of the scores for the same h is
printed. The loop's passes are timed on a share of the samples. The bars: 25 times the samples per second when scoring,
and 5 times the speed for the whole stage.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from safetensors.torch import load
from torch import Tensor

from benchmarks.preparation import log_arguments, prepared
from cluster.storage import Storage
from pipeline.engine.config import InfluenceConfig
from pipeline.engine.sample_tables import SampleShard
from pipeline.stages.influence_solve import solver_settings
from pipeline.studies.audit.loaded_log import AuditLog
from scoring.batching import HistoryBatch, collate, length_buckets
from scoring.curvature_draw import curvature_keys, first_rows
from scoring.gradients import influence_scores, mean_loss_gradient_sum
from scoring.influence import LocalCurvature, linear_layers, solve_direction
from scoring.objective import reduce_to_scope
from scoring.ragged import Ragged
from scoring.scope import Scope
from scoring.surrogate import Surrogate, build_surrogate, surrogate_scope

_LENGTH = 50
Result = TypeVar("Result")


class Loop:
    """The paper's recipe, one padded sample at a time."""

    def __init__(self, model: Surrogate, scope: Scope, samples: SampleShard) -> None:
        self.model, self.scope, self.samples = model, scope, samples
        named = dict(model.named_parameters())
        self.parameters = [named[name] for name in scope.names]

    def sample(self, row: int) -> HistoryBatch:
        history = np.zeros((1, _LENGTH), dtype=np.int64)
        items = self.samples.history.row(row)[-_LENGTH:]
        history[0, : len(items)] = items
        target = torch.tensor([int(self.samples.target[row])])
        return HistoryBatch(torch.from_numpy(history), torch.tensor([len(items)]), target)

    def gradient(self, row: int, graph: bool = False) -> Tensor:
        loss = self.model.per_sample_loss(self.sample(row)).sum()
        parts = torch.autograd.grad(loss, self.parameters, create_graph=graph)
        return torch.cat([part.reshape(-1) for part in parts])

    def mean_gradient(self, rows: Sequence[int]) -> Tensor:
        return torch.stack([self.gradient(row) for row in rows]).mean(0)

    def lissa(self, v: Tensor, steps: int, damp: float = 0.01, scale: float = 25.0) -> Tensor:
        h = v.clone()
        order = np.random.default_rng(0).integers(len(self.samples), size=steps)
        for row in order.tolist():
            product = torch.autograd.grad(self.gradient(row, graph=True) @ h, self.parameters)
            h = v + (1 - damp) * h - torch.cat([part.reshape(-1) for part in product]) / scale
        return h

    def scores(self, rows: Sequence[int], h: Tensor) -> np.ndarray:
        return np.array([float(self.gradient(row) @ h) for row in rows])


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


def batches(samples: SampleShard, history: Ragged) -> list[tuple[np.ndarray, HistoryBatch]]:
    return [(rows, collate(history, samples.target, rows)) for rows in length_buckets(history.lengths, 8192, 4096)]


def trained(run: Storage) -> Surrogate:
    metrics = run.child("surrogate").read_json("metrics.json")
    model = build_surrogate(metrics["surrogate"], metrics["item_count"], metrics["config"])
    model.load_state_dict(load(run.child("surrogate").read_bytes("model.safetensors")))
    return model.eval()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    log_arguments(parser)
    parser.add_argument("--loss", default="softmax", choices=("softmax", "sampled", "bce"), help="surrogate loss")
    parser.add_argument("--epochs", type=int, default=8, help="maximum epochs of the surrogate")
    parser.add_argument("--solvers", default="ekfac,cg,none", help="solvers; the first is compared with the loop")
    parser.add_argument("--scope", help="a scope of the surrogate, or a pattern; default: its default scope")
    parser.add_argument("--damping", type=float, default=InfluenceConfig().damping)
    parser.add_argument("--lissa-steps", type=int, default=5000)
    parser.add_argument("--loop-samples", type=int, default=2000, help="number of samples to time the loop's passes on")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args(arguments)
    run = prepared(options, "surrogate", surrogate={"loss": options.loss, "epochs": options.epochs})
    torch.set_num_threads(options.threads)
    samples, model = AuditLog.read(run.child("data")).samples, trained(run)
    scope = surrogate_scope(model, (options.scope,) if options.scope else None)
    count = len(samples)
    print(f"{count:,} samples, {model.item_count:,} items, {scope.size:,} parameters, {options.threads} threads")

    loop = Loop(model, scope, samples)
    rows = np.random.default_rng(1).permutation(count)[: options.loop_samples].tolist()
    v, v_seconds = timed(lambda: loop.mean_gradient(rows))
    h, lissa_seconds = timed(lambda: loop.lissa(v, options.lissa_steps))
    reference, loop_seconds = timed(lambda: loop.scores(rows, h))
    share = count / len(rows)
    whole = v_seconds * share + lissa_seconds + loop_seconds * share
    print(f"loop: v {v_seconds * share:.0f} s, LiSSA {lissa_seconds:.0f} s, scores {loop_seconds * share:.0f} s")
    print(
        f"      {len(rows) / loop_seconds:,.0f} samples/s, {whole:.0f} s in all (v and scores from {len(rows)} samples)"
    )

    objective = reduce_to_scope(model, scope)
    history = samples.history.tail(_LENGTH)
    drawn = samples.take(first_rows(curvature_keys(samples.sample_id), int(InfluenceConfig().curvature_samples)))
    for number, solver in enumerate(options.solvers.split(",")):
        settings = solver_settings(InfluenceConfig.model_validate({"solver": solver}), damping=options.damping)
        started = time.perf_counter()
        total, _ = mean_loss_gradient_sum(objective, scope, (batch for _, batch in batches(samples, history)))
        v_end = time.perf_counter()
        curved = [batch for _, batch in batches(drawn, drawn.history.tail(_LENGTH))] if solver != "none" else []
        curvature = LocalCurvature(objective, scope, [curved])
        layers = linear_layers(objective, scope) if solver == "ekfac" else ()
        solution = solve_direction(settings, curvature, total / count, scope, layers)
        solved = time.perf_counter()
        scores = np.empty(count, dtype=np.float32)
        for chosen, batch in batches(samples, history):
            scores[chosen] = influence_scores(objective, scope, solution.direction, batch)
        done = time.perf_counter()
        residual = "-" if solution.residual is None else f"{solution.residual:.1e}"
        print(
            f"{solver:6s} v {v_end - started:.1f} s, solve {solved - v_end:.1f} s (residual {residual}), scores "
            f"{done - solved:.1f} s: {count / (done - solved):,.0f} samples/s, {done - started:.1f} s in total"
        )
        if number == 0:
            rate = count / (done - solved) / (len(rows) / loop_seconds)
            print(f"scoring: {rate:.1f} times the loop (bar 25); whole: {whole / (done - started):.1f} times (bar 5)")
            if curved:
                lissa = curvature.product(h.double() / 25) + 0.25 * h.double() / 25 - v.double()
                print(f"LiSSA's residual against the same curvature: {float(lissa.norm() / v.double().norm()):.2f}")
    agreement = np.empty(count, dtype=np.float32)
    for chosen, batch in batches(samples, history):
        agreement[chosen] = influence_scores(objective, scope, h.double(), batch)
    error = np.abs(agreement[rows] - reference).max() / np.sqrt(np.mean(reference**2))
    print(f"largest difference from the loop for the same h: {error:.1e} of the scores' root mean square")


if __name__ == "__main__":
    main()
