"""Read the project's own source: its modules, docstrings, comments and annotations."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from cluster.project_root import PROJECT_ROOT

#: The packages of the product, without tests and benchmarks.
PACKAGES = ("cluster", "dealrec", "pipeline", "scoring", "training")


@cache
def sources(*folders: str) -> dict[Path, str]:
    """Return the text of every Python file of these folders by its path below the project."""
    found = [path for folder in folders for path in sorted((PROJECT_ROOT / folder).rglob("*.py"))]
    return {path.relative_to(PROJECT_ROOT): path.read_text(encoding="utf-8") for path in found}


def room_of(path: Path) -> str:
    """Return the room of a file: the folder of the first level below its package, or the package."""
    return "/".join(path.parts[: min(2, len(path.parts) - 1)])


def class_names(text: str) -> list[str]:
    """Return the names of the classes that a module defines at its top level."""
    return [node.name for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]


def docstrings(text: str) -> Iterator[tuple[str, str]]:
    """Yield the kind (module, class or function) and the docstring of everything in a module that has one."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found = ast.get_docstring(node)
            if found:
                yield {"Module": "module", "ClassDef": "class"}.get(type(node).__name__, "function"), found


def comments(text: str) -> Iterator[str]:
    """Yield the text of every comment that starts a sentence."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        words = token.string.lstrip("#: ")
        if token.type == tokenize.COMMENT and re.match("[A-Z]", words):
            yield words
