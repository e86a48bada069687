"""Mutation testing: change one operator or number of the metrics, losses and LRP rules at a time, and run their tests.

python benchmarks/mutants.py                       # all files of TARGETS
python benchmarks/mutants.py --only losses         # one of them
python benchmarks/mutants.py --sample 60           # that many mutants per file, drawn by a seed

A mutant that no test notices survives: the table counts them, and the lines before it show each.
"""

import ast
import copy
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli

ROOT = Path(__file__).parent.parent
TARGETS: dict[str, tuple[str, list[str]]] = {
    "metrics": ("explainer/metrics", ["tests/explainer/metrics"]),
    "measures": ("explainer/faithfulness/measures.py", ["tests/explainer/faithfulness"]),
    "losses": ("explainer/explainers/losses.py", ["tests/explainer/explainers/test_losses.py"]),
    "lrp": ("explainer/methods/lrp/rules.py", ["tests/explainer/methods/lrp"]),
    "chefer": ("explainer/methods/lrp/chefer.py", ["tests/explainer/methods/lrp"]),
}
"""What is changed, and the tests that have to notice."""

_PAIRS = (
    *((ast.Add, ast.Sub), (ast.Mult, ast.Div), (ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq)),
    *((ast.And, ast.Or), (ast.Is, ast.IsNot), (ast.BitAnd, ast.BitOr)),
)
SWAPS: dict[type[ast.AST], Any] = {ast.Pow: ast.Mult, **dict(_PAIRS), **{b: a for a, b in _PAIRS}}
REWRITE = "ignore::pytest.PytestAssertRewriteWarning"  # of packages that are imported before the tests start
METHODS = {"min": "max", "max": "min", "sum": "mean", "mean": "sum", "any": "all", "all": "any", "argmax": "argmin"}


def main(only: str | None = None, sample: int | None = None, seed: int = 0, timeout: int = 300) -> None:
    """Print every survivor and the score per target.

    Args:
        only: the name of one target.
        sample: mutants per target; all of them by default.
        timeout: seconds after which a mutant counts as noticed, since it hangs.
    """
    # Imported once, here, so that each run of the tests starts warm.
    import hypothesis  # noqa: F401
    import pytest
    import torch
    from transformers import AutoModelForSequenceClassification  # noqa: F401

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("explainer", "lightning_modules", "tests", "checkpoints", "pyproject.toml"):
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, Path(folder) / name)
        os.chdir(folder)
        sys.path.insert(0, folder)
        lines = ["| target | mutants | noticed | share |", "|---|---|---|---|"]
        for name in TARGETS if only is None else [only]:
            place, tests = TARGETS[name]
            files = sorted(Path(place).rglob("*.py")) if Path(place).is_dir() else [Path(place)]
            mutants = [(file, *mutant) for file in files for mutant in mutations(file.read_text(encoding="utf-8"))]
            if sample is not None and sample < len(mutants):
                mutants = random.Random(seed).sample(mutants, sample)
            options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", REWRITE]
            if not run(pytest.main, [*tests, *options], timeout):
                raise SystemExit(f"The tests of {name} fail on the unchanged code.")
            noticed = 0
            for file, line, what, source in mutants:
                original = file.read_text(encoding="utf-8")
                file.write_text(source, encoding="utf-8")
                survived = run(pytest.main, [*tests, *options], timeout)
                file.write_text(original, encoding="utf-8")
                noticed += not survived
                if survived:
                    print(f"{file}:{line}: {what}\n    {original.splitlines()[line - 1].strip()}", flush=True)
            lines.append(f"| {name} | {len(mutants)} | {noticed} | {noticed / max(len(mutants), 1):.0%} |")
            print(lines[-1], flush=True)
    print("\n".join(lines))


def mutations(source: str) -> Iterator[tuple[int, str, str]]:
    """The line, what is changed, and the whole source with that one change, for every change there is."""
    tree = ast.parse(source)
    for place, node in enumerate(ast.walk(tree)):
        for what, change in changes(node):
            mutant = copy.deepcopy(tree)
            change(list(ast.walk(mutant))[place])
            yield getattr(node, "lineno", 0), what, ast.unparse(ast.fix_missing_locations(mutant))


def changes(node: ast.AST) -> Iterator[tuple[str, Callable[[Any], None]]]:
    """What can be changed at one node of the syntax tree: a description, and a function that does it."""
    if isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp) and type(node.op) in SWAPS:
        other = SWAPS[type(node.op)]
        yield f"{type(node.op).__name__} -> {other.__name__}", lambda n: setattr(n, "op", other())
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        to = SWAPS[type(node.ops[0])]
        yield f"{type(node.ops[0]).__name__} -> {to.__name__}", lambda n: setattr(n, "ops", [to(), *n.ops[1:]])
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        yield f"{node.value} -> {node.value + 1}", lambda n: setattr(n, "value", n.value + 1)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "minus dropped", lambda n: setattr(n, "op", ast.UAdd())
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
        method = METHODS[node.func.attr]
        yield f"{node.func.attr} -> {method}", lambda n: setattr(n.func, "attr", method)


def run(function: Callable[[list[str]], Any], arguments: list[str], timeout: int) -> bool:
    """Whether the tests pass, in a process of their own; False too when they take too long."""
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        signal.alarm(timeout)
        code = 1
        try:
            code = int(function(arguments))
        finally:  # nothing of the parent's is cleaned up here
            os._exit(code)
    return os.waitpid(child, 0)[1] == 0


if __name__ == "__main__":
    auto_cli(main)
