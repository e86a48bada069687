"""Run the notebooks of docs/notebooks/ and store their outputs, without Jupyter.

python docs/run_notebooks.py              # all of them
python docs/run_notebooks.py classifier   # one

`tests/test_notebooks.py` runs the same cells on small budgets.
"""

import ast
import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "notebooks"

Cell = dict[str, Any]
"""A cell as the format of notebooks has it: `cell_type`, `source` in lines, and `outputs` of code."""


def read(file: Path) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return notebook


def write(file: Path, notebook: dict[str, Any]) -> None:
    """In the form that Jupyter itself writes, so that opening and saving it changes nothing."""
    file.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def source(cell: Cell) -> str:
    return "".join(cell["source"])


def code_cells(notebook: dict[str, Any]) -> list[Cell]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run(notebook: dict[str, Any], folder: Path, instead: Mapping[str, str] | None = None) -> Iterator[list[Any]]:
    """The outputs of each code cell, in order; the cells share one namespace.

    Args:
        folder: the one to run in, such as that of the notebook.
        instead: pieces of code and what takes their place, for a smaller budget.

    Raises:
        ValueError: when a piece of `instead` is in no cell.
    """
    whole = "\n".join(source(cell) for cell in code_cells(notebook))
    if absent := [piece for piece in instead or {} if piece not in whole]:
        raise ValueError(f"`instead` names code that no cell has: {', '.join(absent)}.")
    names: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.chdir(folder):
        for number, cell in enumerate(code_cells(notebook), start=1):
            code = source(cell)
            for piece, other in (instead or {}).items():
                code = code.replace(piece, other)
            yield outputs(code, number, names)


def outputs(code: str, number: int, names: dict[str, Any]) -> list[Any]:
    """What a cell prints, and the value of its last line, as the format of notebooks has them."""
    tree, place = ast.parse(code), f"cell {number}"
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    value = None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, place, "exec", dont_inherit=True), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), place, "eval", dont_inherit=True), names)
    found: list[Any] = []
    if text := printed.getvalue():
        found.append({"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)})
    if value is not None:
        data = {kind: shown.splitlines(keepends=True) for kind, shown in representation(value).items()}
        result = {"data": data, "execution_count": number, "metadata": {}, "output_type": "execute_result"}
        found.append(result)
    return found


def representation(value: Any) -> dict[str, str]:
    """How a notebook shows a value, by the type of the content."""
    if hasattr(value, "_repr_html_"):
        return {"text/html": value._repr_html_()}
    return {"text/plain": repr(value)}


def main(names: list[str]) -> None:
    for file in sorted(FOLDER.glob("*.ipynb")):
        if not names or file.stem in names:
            notebook = read(file)
            results = zip(code_cells(notebook), run(notebook, FOLDER), strict=True)
            for number, (cell, found) in enumerate(results, start=1):
                cell["execution_count"], cell["outputs"] = number, found
                print(f"{file.name}, cell {number}", file=sys.stderr)
            write(file, notebook)


if __name__ == "__main__":
    os.environ["NO_COLOR"] = "1"
    main(sys.argv[1:])
