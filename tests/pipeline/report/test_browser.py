"""The page in a real browser, if one is installed."""

from __future__ import annotations

import shutil
import subprocess
from html import escape
from pathlib import Path

import pytest

from pipeline.report import ReportData, render_report
from tests.pipeline.report.sample_run import full_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr",
]  # fmt: skip

# A frame has exactly the requested width; a browser's window has a minimum width.
MEASURE = """<!doctype html><body>
<iframe id="page" style="width:{width}px;height:900px;border:0" srcdoc="{page}"></iframe>
<script>document.getElementById("page").onload = event => {{
  const root = event.target.contentDocument.documentElement;
  document.body.dataset.overflow = root.scrollWidth - root.clientWidth;
}}</script></body>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.parametrize("width", [380, 1440])
@pytest.mark.parametrize("run", [full_run(), ReportData(name="early")], ids=["full", "empty"])
def test_fits_its_width_without_complaints(tmp_path: Path, run: ReportData, width: int):
    page = tmp_path / "measure.html"
    page.write_text(MEASURE.format(width=width, page=escape(render_report(run), quote=True)), encoding="utf-8")
    result = subprocess.run(
        [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert 'data-overflow="0"' in result.stdout
    assert "CONSOLE" not in result.stderr
