from __future__ import annotations

from typing import TextIO, cast

from cluster.progress import LineProgress
from pipeline.api.notebook import NotebookScreen, in_notebook


class Shown(NotebookScreen):
    """What the display holds."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def _show(self, text: str) -> None:
        self.text = text


def test_progress_replaces_its_line_and_other_lines_stay() -> None:
    screen = Shown()
    progress = LineProgress("ingest", stream=cast("TextIO", screen), interval=0)
    screen.write("reading\n")
    progress.update(1, 4)
    progress.update(2, 4)
    assert screen.text.splitlines()[0] == "reading"
    assert len(screen.text.splitlines()) == 2
    assert "2/4" in screen.text
    progress.update(4, 4)
    progress.close()
    screen.write("done\n")
    lines = screen.text.splitlines()
    assert [lines[0], lines[2]] == ["reading", "done"]
    assert "4/4" in lines[1]


def test_a_test_is_no_notebook() -> None:
    assert not in_notebook()
