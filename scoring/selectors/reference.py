"""Samples of the reference period itself: the control that any aimed selector must face.

Not a coreset of the train samples: it shows what as many of the very samples that the others aim at would teach.
"""

from __future__ import annotations

import numpy as np

from scoring.draw import Rows, StratifiedDraw
from scoring.ids import draw_order
from scoring.reference import Reference, required_reference
from scoring.selectors.base import (
    Selection,
    SelectionParams,
    Shards,
    asked_size,
    survey,
)
from scoring.selectors.plain import no_score, plain_report


class ReferenceSelector:
    """Draws uniformly from the reference as many samples as the others take from train."""

    scores: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    sees_validation = True

    def select(self, shards: Shards, params: SelectionParams, reference: Reference | None = None) -> Selection:
        """One pass, for the size, and one over the reference.

        Raises TooFewSamplesError, and SettingError without a reference.
        """
        reference = required_reference(reference, params.method)
        counts = survey(shards, self.scores)
        asked = asked_size(params.size, counts.samples)
        draw = StratifiedDraw(np.array([asked]))
        for part in reference.shards():
            none, stratum = no_score(len(part)), np.zeros(len(part), dtype=np.int32)
            draw.offer(Rows(draw_order(part.sample_id, params.seed), stratum, part.sample_id, none, none, none))
        rows = draw.result()
        warnings = []
        if asked > reference.samples:
            warnings.append(f"{asked:,} samples were asked for; the reference period has {reference.samples:,}")
        report = plain_report(params, counts, asked, len(rows), reference_samples=reference.samples, warnings=warnings)
        return Selection.of(rows, report)
