"""For the API pages: docstrings in the form that the generator expects.

Names that share a line (``x, y: two layers``) get an entry each, and examples (``>>> ...``) become blocks of code.
"""

import re
from typing import Any

import griffe

# the line of several names, and the deeper lines that continue it
_SHARED = re.compile(r"^(?P<indent> {4,})(?P<names>\w+(?:, \w+)+): (?P<text>.*(?:\n(?P=indent) +\S.*)*)$", re.MULTILINE)
_EXAMPLE = re.compile(r"^( *)>>> .*(?:\n.+)*", re.MULTILINE)  # up to the next empty line


def apart(docstring: str) -> str:
    """A docstring in which every name has its own entry; the second one refers to the first."""

    def entries(shared: re.Match[str]) -> str:
        first, *others = shared["names"].split(", ")
        lines = [f"{first}: {shared['text']}", *(f"{name}: With `{first}`." for name in others)]
        return "\n".join(shared["indent"] + line for line in lines)

    return _SHARED.sub(entries, docstring)


def fenced(docstring: str) -> str:
    """A docstring in which every example is a block of code, not text with brackets that look like links."""
    return _EXAMPLE.sub(lambda example: f"{example[1]}```pycon\n{example[0]}\n{example[1]}```", docstring)


class Readable(griffe.Extension):
    """Applies both to every object that griffe reads."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = fenced(apart(obj.docstring.value))
