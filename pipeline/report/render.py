"""Render the page: one HTML document that refers to nothing outside itself and runs no script."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from pipeline.report import number_format as fmt
from pipeline.report.report_data import ReportData
from pipeline.report.view import page


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("pipeline.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = fmt.count
    environment.filters["number"] = fmt.number
    return environment.get_template("page.html.j2")


def render_report(run: ReportData) -> str:
    """Render the report as the text of one HTML file; parts that the run lacks are shown as not run.

    All text from the log, the model and the configuration is escaped. The page's security policy forbids scripts and
    outside resources.
    """
    # The style sheet is our own and holds nothing from the run.
    style = Markup(files("pipeline.report").joinpath("page.css").read_text(encoding="utf-8"))
    return _template().render(style=style, **page(run))
