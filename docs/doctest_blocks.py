"""Examples in docstrings as blocks of code on the site, without the flags of doctest (an extension of griffe)."""

import re
from typing import Any

import griffe


def fenced(text: str) -> str:
    """The text with each run of lines that begins by `>>>` as a block of code.

    >>> print(fenced("Sum.\\n\\n>>> 1 + 1  # doctest: +SKIP\\n2"))
    Sum.
    <BLANKLINE>
    ```pycon
    >>> 1 + 1
    2
    ```
    """
    parts = re.split(r"(\n\s*\n)", text)
    for i, part in enumerate(parts):
        if part.lstrip().startswith(">>>"):
            indent = part[: len(part) - len(part.lstrip())].rpartition("\n")[2]
            code = re.sub(r"\s*# doctest: .*$", "", part.strip("\n"), flags=re.MULTILINE)
            parts[i] = f"{indent}```pycon\n{code}\n{indent}```"
    return "".join(parts)


class DoctestBlocks(griffe.Extension):
    """Fences the examples of every docstring."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)
