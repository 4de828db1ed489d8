"""Messages in the words of their reader: options for the command line, arguments for Python."""

from __future__ import annotations

import re

#: Options whose arguments in Python have other names.
_ARGUMENTS = {"from": "from_", "format": "formats", "set": "overrides"}
#: Commands that are functions of the Python API under the same name.
_FUNCTIONS = (
    "run",
    "compare",
    "audit",
    "plan",
    "export",
    "recommend",
    "doctor",
    "submit",
    "jobs",
    "logs",
    "stop",
    "schema",
)
_QUOTED = re.compile(r"`([^`]*)`")
_OPTION = re.compile(r"(?<![\w-])--([a-z][a-z-]*)")


def for_python(text: str) -> str:
    """Return a message of the command line in the words of the Python API.

    Commands of dealrec become calls, options become arguments. Commands of other programs stay as they
    are, and so does the shell's `dealrec completion`.

    >>> for_python("Choose another --run-dir, or give `dealrec run CONFIG --run-dir runs/a --from select`.")
    "Choose another run_dir, or give `dealrec.run(config, run_dir='runs/a', from_='select')`."
    """
    parts = _QUOTED.split(text)
    # Odd parts stood between backticks.
    return "".join(f"`{_call(part)}`" if place % 2 else _names(part) for place, part in enumerate(parts))


def _names(text: str) -> str:
    return _OPTION.sub(lambda match: _argument(match[1]), text)


def _argument(option: str) -> str:
    return _ARGUMENTS.get(option, option.replace("-", "_"))


def _call(command: str) -> str:
    words = command.split()
    if len(words) < 2 or words[0] != "dealrec" or words[1] == "completion":
        return command if not command.startswith("--") else _names(command)
    arguments: list[str] = []
    name, rest = words[1], words[2:]
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            arguments.append(word.lower() if word.isupper() else repr(word))
        elif rest and not rest[0].startswith("--"):
            arguments.append(f"{_argument(word[2:])}={rest.pop(0)!r}")
        else:
            arguments.append(f"{_argument(word[2:])}=True")
    if name not in _FUNCTIONS:
        # A stage by its own name.
        name, arguments = "run", [*arguments, f"until={name!r}"]
    return f"dealrec.{name}({', '.join(arguments)})"
