"""Compare selectors on one log, or one run with another."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import overload

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.api.calls import api_call
from pipeline.api.comparison_result import Comparison
from pipeline.api.config_sources import Source, class_name, named_place, opened_task, read_source
from pipeline.api.gate import Gate
from pipeline.api.run_result import Run
from pipeline.studies.compare.run_comparison import Target

#: Random coresets a training seed, unless asked for otherwise.
_DRAWS: dict[str, int] = {"proxy": 3, "llm": 1}


@overload
def compare(
    source: Source,
    *,
    run_dir: str | os.PathLike[str] | None = None,
    against: str | os.PathLike[str] | Run,
    progress: bool | None = None,
) -> Gate: ...


@overload
def compare(
    source: Source,
    *,
    run_dir: str | os.PathLike[str] | None = None,
    against: None = None,
    selectors: Sequence[str | type] = ("dealrec", "random"),
    seeds: int = 1,
    first_seed: int = 0,
    control: str = "random",
    sizes: Sequence[float] | None = None,
    draws: int | None = None,
    target: Target = "llm",
    proxies: Sequence[str] = ("semantic", "lexical"),
    arms_at_once: int | None = None,
    overrides: Sequence[str] = (),
    progress: bool | None = None,
    **sections: object,
) -> Comparison: ...


def compare(
    source: Source,
    *,
    run_dir: str | os.PathLike[str] | None = None,
    against: str | os.PathLike[str] | Run | None = None,
    selectors: Sequence[str | type] = ("dealrec", "random"),
    seeds: int = 1,
    first_seed: int = 0,
    control: str = "random",
    sizes: Sequence[float] | None = None,
    draws: int | None = None,
    target: Target = "llm",
    proxies: Sequence[str] = ("semantic", "lexical"),
    arms_at_once: int | None = None,
    overrides: Sequence[str] = (),
    progress: bool | None = None,
    **sections: object,
) -> Comparison | Gate:
    """Tune and evaluate on the coresets of several selectors, and tell which are better than the control.

    With `against`, nothing is tuned: the tuned model of a complete run is held against that of another one, over the
    test users that both were evaluated on. The result says whether it is worse beyond chance.

    Parameters
    ----------
    source, run_dir, overrides, progress, sections : as of `dealrec.run`; the run's complete stages are used.
    against : another run or its directory. It goes with `source`, `run_dir` and `progress` alone.
    selectors : names of selectors, with settings of their own as in `dealrec+normalise=rank`, or classes of selectors.
    seeds, first_seed : the number of training seeds, each with a selection of its own, and the lowest of them.
    control : the selector that differences are taken from.
    sizes : shares below 1 or counts; None takes `select.size`.
    draws : random coresets for each seed; None takes 3 for proxies and 1 for the LLM.
    target : what is tuned: `llm`, or `proxy` for small stand-ins in seconds an arm.
    proxies : the stand-ins for `proxy`.
    arms_at_once : arms of the LLM that are tuned side by side; None takes as many as fit.

    Raises `UserError` as `dealrec.run` does, and for selectors and sizes that do not exist; with `against`, for a run
    without an evaluation and for two whose ranks do not compare.

    Examples
    --------
    >>> found = dealrec.compare(
    ...     run, selectors=["random", "popularity"], sizes=[4], target="proxy", proxies=["lexical"]
    ... )
    >>> [arm.selector for arm in found.arms]
    ['zero-shot', 'random', 'popularity']
    >>> found.table().num_rows
    3
    """
    if against is not None:
        asked_for = {
            "selectors": tuple(selectors) != ("dealrec", "random"),
            "seeds": seeds != 1,
            "first-seed": first_seed != 0,
            "control": control != "random",
            "sizes": sizes is not None,
            "draws": draws is not None,
            "target": target != "llm",
            "proxies": tuple(proxies) != ("semantic", "lexical"),
            "arms-at-once": arms_at_once is not None,
            "set": bool(overrides),
        }
        with api_call(progress):
            refuse_tuning([f"--{name}" for name, given in asked_for.items() if given] + sorted(sections))
            other = against.run_dir if isinstance(against, Run) else os.fspath(against)
            return Gate.of(Storage.at(named_place(read_source(source, run_dir))), Storage.at(other))
    from pipeline.studies.compare.arms import Request
    from pipeline.studies.compare.run_comparison import compare as compare_selectors

    with api_call(progress), opened_task(source, run_dir, overrides, sections) as task:
        if target not in _DRAWS:
            raise UserError(f"--target {target} cannot be tuned.", f"There are {', '.join(sorted(_DRAWS))}.")
        names = [class_name(name) if isinstance(name, type) else name for name in selectors]
        asked = [float(size) for size in (() if sizes is None else sizes)] or [task.config.select.size]
        drawn = _DRAWS[target] if draws is None else draws
        request = Request(list(dict.fromkeys(names)), seeds, asked, drawn, first_seed, control)
        record = compare_selectors(task.config, task.run, request, target, list(proxies), arms_at_once)
        return Comparison(record, f"{task.run.child('arms').uri}/comparison-{target}.html")


def refuse_tuning(given: Sequence[str]) -> None:
    """Raise `UserError` for options that have no meaning beside --against."""
    if given:
        raise UserError(
            f"--against compares two complete runs and tunes nothing, so {', '.join(given)} cannot be given with it.",
            "Leave out one or the other.",
        )
