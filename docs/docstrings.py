"""For the API pages: names that share a line of a docstring (``x, y: two layers``) get an entry each, which the generator expects."""

import re
from typing import Any

import griffe

# the line of several names, and the deeper lines that continue it
_SHARED = re.compile(r"^(?P<indent> {4,})(?P<names>\w+(?:, \w+)+): (?P<text>.*(?:\n(?P=indent) +\S.*)*)$", re.MULTILINE)


def apart(docstring: str) -> str:
    """A docstring in which every name has its own entry; the second one refers to the first."""

    def entries(found: re.Match[str]) -> str:
        first, *others = found["names"].split(", ")
        lines = [f"{first}: {found['text']}", *(f"{name}: With `{first}`." for name in others)]
        return "\n".join(found["indent"] + line for line in lines)

    return _SHARED.sub(entries, docstring)


class SharedEntries(griffe.Extension):
    """Applies it to every object that griffe reads."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = apart(obj.docstring.value)
