"""The features that the selectors of a comparison read, computed before any arm and shared by all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.engine.events import EventLog
from pipeline.engine.graph import Graph, Stage
from pipeline.stages.selection_needs import FEATURE_NAMES
from pipeline.studies.compare.arms import Arm, arm_graph


class ArmFeatures:
    """The feature stages of all arms, each once, though arms may have them with different settings."""

    def __init__(self, config: Config, run: Storage, arms: Sequence[Arm]) -> None:
        self._run = run
        # Neither the size nor the seed of an arm changes a feature.
        one_each = {arm.selector: arm for arm in arms}
        self._graphs = [arm_graph(config, run, arm) for arm in one_each.values()]

    def check(self) -> None:
        """Raise `UserError` for features of another configuration."""
        for graph in self._graphs:
            graph.check([stage for stage in graph.stages if stage.name in FEATURE_NAMES])

    def incomplete(self) -> list[str]:
        """Return the names of the stages that are still to run."""
        names = [stage.name for graph, stage in self._stages() if graph.incomplete([stage])]
        return list(dict.fromkeys(names))

    def compute(self) -> None:
        """Bring all features up to date: every arm finds them done, and none counts them as its selection.

        Ray is connected, and the shared stages are complete.
        """
        events = EventLog(self._run)
        for graph, stage in self._stages():
            graph.execute([stage], events)

    def _stages(self) -> Iterator[tuple[Graph, Stage]]:
        seen: set[str] = set()
        for graph in self._graphs:
            for stage in graph.stages:
                if stage.name in FEATURE_NAMES and graph.path(stage) not in seen:
                    seen.add(graph.path(stage))
                    yield graph, stage
