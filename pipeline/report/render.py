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
def page_template(package: str) -> Template:
    """Return the `page.html.j2` of a package; it escapes all text, and an undefined name is an error."""
    environment = Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = fmt.count
    environment.filters["number"] = fmt.number
    return environment.get_template("page.html.j2")


def page_style() -> Markup:
    """Return the style sheet of all pages, which is our own and holds nothing from a run."""
    return Markup(files("pipeline.report").joinpath("page.css").read_text(encoding="utf-8"))


def render_report(run: ReportData) -> str:
    """Render the report as the text of one HTML file; parts that the run lacks are shown as not run.

    All text from the log, the model and the configuration is escaped. The page's security policy forbids scripts and
    outside resources.
    """
    return page_template("pipeline.report").render(style=page_style(), **page(run))
