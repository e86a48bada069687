"""Mutation testing: change one operator or number of the metrics, losses and LRP rules at a time, and run their tests.

python benchmarks/mutants.py                                # all files of TARGETS
python benchmarks/mutants.py --only losses,metrics          # some of them
python benchmarks/mutants.py --sample 60                    # that many mutants per target, drawn by a seed
python benchmarks/mutants.py --jobs 14 --minutes 8 --results mutants.jsonl

A mutant that no test notices survives: the lines before the table show each. Nothing is written into the code: each
mutant runs in a process that is forked from this one, which has imported the libraries, and in which the import system
hands out the changed source. `--results` keeps what happened as JSON lines, and a run with the same file goes on there;
take the survivors' lines out of it to try them again.
"""

import ast
import copy
import difflib
import hashlib
import importlib
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, Literal, TypeVar

from jsonargparse import auto_cli

ROOT = Path(__file__).resolve().parent.parent
LRP = "tests/explainer/methods/lrp"
TARGETS: dict[str, tuple[str, list[str]]] = {
    "metrics": ("explainer/metrics", ["explainer/metrics", "tests/explainer/metrics"]),
    "measures": ("explainer/faithfulness/measures.py", ["tests/explainer/faithfulness/test_measures.py"]),
    "losses": ("explainer/explainers/losses.py", ["tests/explainer/explainers/test_losses.py"]),
    "lrp": (
        "explainer/methods/lrp/rules.py",
        [f"{LRP}/test_rules.py", f"{LRP}/test_attn_lrp.py", f"{LRP}/test_cp_lrp.py", f"{LRP}/test_base.py"],
    ),
    "chefer": ("explainer/methods/lrp/chefer.py", [f"{LRP}/test_chefer.py", f"{LRP}/test_mask_lrp.py"]),
    "mask_lrp": (
        "explainer/methods/lrp/mask_lrp.py",
        ["tests/explainer/attention_heads/test_mask.py", f"{LRP}/test_mask_lrp.py"],
    ),
}
"""What is changed, and the tests that have to notice."""

_UNDEFINED = "return len(scores) < 2 or bool((scores == scores[0]).all()) or bool((reference == reference[0]).all())"
_BLOCK = "block = max(1, 1_000_000 // len(array))  # resamples drawn at once: bounded memory"
_SIGNS = "modified = torch.where(y >= 0, strengthened(up, down, offsets[0]), strengthened(down, up, offsets[1]))"
EQUIVALENT: dict[tuple[str, str, str], str] = {
    ("explainer/metrics/agreement.py", _UNDEFINED, "0 -> 1 (columns 53-54)"): "all equal the first, or the second",
    ("explainer/metrics/agreement.py", _UNDEFINED, "0 -> 1 (columns 96-97)"): "all equal the first, or the second",
    (
        *("explainer/metrics/base.py", "full_state_update = False"),
        "False -> True (columns 24-29)",
    ): "torchmetrics updates twice instead of once, to the same values",
    (
        *("explainer/metrics/base.py", "is_differentiable = False"),
        "False -> True (columns 24-29)",
    ): "a remark that torchmetrics computes nothing with",
    ("explainer/metrics/bootstrap.py", _BLOCK, "1 -> 2 (columns 16-17)"): "memory, not numbers",
    ("explainer/metrics/bootstrap.py", _BLOCK, "1000000 -> 1000001 (columns 19-28)"): "memory, not numbers",
    (
        *("explainer/metrics/response.py", "if not span > 0:"),
        "Gt -> GtE (columns 11-19)",
    ): "a span of 0 gives 0 / 0, which is NaN as well",
    (
        "explainer/metrics/response.py",
        "steps = (predicted * (1e7 / predicted.abs().max().clamp(min=1e-300))).round()",
        "10000000.0 -> 10000001.0 (columns 26-29)",
    ): "any factor of this size ties the same sums",
    (
        *("explainer/methods/lrp/rules.py", _SIGNS),
        "GtE -> Gt (columns 27-33)",
    ): "where y is 0, the next line multiplies by 0",
    (
        "explainer/methods/lrp/chefer.py",
        "return torch.where(b == 0, 0.0, a / (b + torch.where(b < 0, -EPSILON, EPSILON)))",
        "Lt -> LtE (columns 57-62)",
    ): "where b is 0, the quotient is not taken",
    (
        *("explainer/methods/lrp/mask_lrp.py", "pairs = zip(gradients, relevances, strict=True)"),
        "True -> False (columns 46-50)",
    ): "both have one entry per layer",
}
"""Mutants that compute the same: the file, the line of its code and the change, and why."""

_PAIRS = (
    *((ast.Add, ast.Sub), (ast.Mult, ast.Div), (ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq)),
    *((ast.And, ast.Or), (ast.Is, ast.IsNot), (ast.BitAnd, ast.BitOr)),
)
SWAPS: dict[type[ast.AST], Any] = {ast.Pow: ast.Mult, **dict(_PAIRS), **{b: a for a, b in _PAIRS}}
METHODS = {"min": "max", "max": "min", "sum": "mean", "mean": "sum", "any": "all", "all": "any", "argmax": "argmin"}
CHECKER = "beartype.beartype"
OPTIONS = [
    *("-p", "no:cacheprovider", "-p", "no:xdist"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # of packages that are imported before the tests start
]


def arguments(name: str) -> list[str]:
    """The arguments of pytest for a target. Types are checked at run time in the target alone, which saves half."""
    place, tests = TARGETS[name]
    package = place.removesuffix(".py").replace("/", ".")
    return [*tests, *OPTIONS, f"--jaxtyping-packages={package},{CHECKER}"]


Key = TypeVar("Key")
Outcome = Literal["killed", "timeout", "survived", "equivalent"]


@dataclass(frozen=True)
class Mutant:
    """A file with one change.

    Attributes:
        line: the changed line of the file.
        code: that line.
        change: what is put in the place of what.
        source: the whole changed file.
        key: the same for the same change of the same file.
    """

    target: str
    file: str
    line: int
    code: str
    change: str
    source: str

    @property
    def key(self) -> str:
        return hashlib.sha256(f"{self.target} {self.file} {self.source}".encode()).hexdigest()[:16]

    def diff(self) -> str:
        whole = ast.unparse(ast.parse((ROOT / self.file).read_text(encoding="utf-8")))
        lines = difflib.unified_diff(whole.splitlines(), self.source.splitlines(), n=0, lineterm="")
        return "\n".join(f"    {line}" for line in list(lines)[3:])


@dataclass(frozen=True)
class Result:
    """What happened to one mutant, as a line of the results file.

    Attributes:
        by: the test that failed first.
    """

    key: str
    target: str
    file: str
    line: int
    code: str
    change: str
    outcome: Outcome
    by: str
    seconds: float


def main(
    only: str | None = None,
    sample: int | None = None,
    seed: int = 0,
    timeout: int = 120,
    jobs: int = 1,
    minutes: float | None = None,
    results: Path | None = None,
) -> None:
    """Print every survivor and the score per target.

    Args:
        only: names of targets, with commas between.
        sample: mutants per target; all of them by default.
        timeout: seconds after which a mutant counts as noticed, since it hangs.
        jobs: mutants that run at the same time.
        minutes: after so many no more mutants are started.
        results: a file of JSON lines that is written as mutants end; those that are in it are not run again.
    """
    until = time.monotonic() + (float("inf") if minutes is None else 60 * minutes)
    results = None if results is None else results.resolve()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    sys.dont_write_bytecode, sys.pycache_prefix = False, tempfile.mkdtemp(prefix="mutants-")
    import_libraries()
    known = read(results)
    found: dict[str, Result] = {}
    wanted = list(TARGETS) if only is None else only.split(",")
    mutants = {name: drawn(name, sample, seed) for name in wanted}
    failing = failing_tests(wanted, jobs)
    every = [mutant for of_target in mutants.values() for mutant in of_target]
    if sample is None and only is None:
        for place in EQUIVALENT.keys() - {(mutant.file, mutant.code, mutant.change) for mutant in every}:
            raise SystemExit(f"`EQUIVALENT` names a mutant that there is not: {place}")
    todo: list[Mutant] = []
    for mutant in every:
        if reason := EQUIVALENT.get((mutant.file, mutant.code, mutant.change)):
            found[mutant.key] = result_of(mutant, "equivalent", reason, 0.0)
        elif mutant.key in known:
            found[mutant.key] = known[mutant.key]
        else:
            todo.append(mutant)
    random.Random(seed).shuffle(todo)  # what the minutes leave out is then spread over all targets
    for result in tried(todo, failing, jobs, timeout, until):
        found[result.key] = result
        if results is not None:
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(result)) + "\n")
    for mutant in every:
        if mutant.key in found and found[mutant.key].outcome == "survived":
            print(f"{mutant.file}:{mutant.line}: {mutant.change}\n{mutant.diff()}")
    print("| target | mutants | killed | of them by the time limit | equivalent | survived | not run | share killed |")
    print("|---|---|---|---|---|---|---|---|")
    totals = Counter[str]()
    for name in wanted:
        counts = Counter[str](
            found[mutant.key].outcome if mutant.key in found else "not run" for mutant in mutants[name]
        )
        totals += counts
        print(row(name, counts))
    print(row("all", totals), flush=True)


def row(name: str, counts: Counter[str]) -> str:
    killed = counts["killed"] + counts["timeout"]
    share = f"{killed / (killed + counts['survived']):.1%}" if killed + counts["survived"] else ""
    rest = (counts["timeout"], counts["equivalent"], counts["survived"], counts["not run"])
    return " | ".join([f"| {name}", str(counts.total()), str(killed), *map(str, rest), f"{share} |"])


LIBRARIES = (
    *("captum.attr", "datasets", "hypothesis", "matplotlib.pyplot", "peft", "pytest", "scipy.stats", "tokenizers"),
    *("torch", "torchmetrics.functional", "transformers.models.auto.modeling_auto"),
)


def import_libraries() -> None:
    """Import once, here, what the tests import, except the package itself and the tests."""
    for name in LIBRARIES:
        with suppress(ImportError):  # then the tests say what is missing
            importlib.import_module(name)
    importlib.import_module("torch").set_num_threads(1)


def read(path: Path | None) -> dict[str, Result]:
    if path is None or not path.exists():
        return {}
    results = [Result(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    return {result.key: result for result in results}


def result_of(mutant: Mutant, outcome: Outcome, by: str, seconds: float) -> Result:
    place = (mutant.target, mutant.file, mutant.line, mutant.code, mutant.change)
    return Result(mutant.key, *place, outcome, by, round(seconds, 2))


# Mutants


def drawn(name: str, sample: int | None, seed: int) -> list[Mutant]:
    """The mutants of a target, or so many of them."""
    place = Path(TARGETS[name][0])
    found: list[Mutant] = []
    for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
        source = file.read_text(encoding="utf-8")
        lines = source.splitlines()
        for line, change, changed in mutations(source):
            found.append(Mutant(name, file.as_posix(), line, lines[line - 1].strip(), change, changed))
    return found if sample is None or sample >= len(found) else random.Random(seed).sample(found, sample)


def mutations(source: str) -> Iterator[tuple[int, str, str]]:
    """The line, what is changed, and the whole source with that one change, for every change there is."""
    tree = ast.parse(source)
    types = {id(inner) for node in ast.walk(tree) for type_ in types_of(node) for inner in ast.walk(type_)}
    for place, node in enumerate(ast.walk(tree)):
        for what, change in changes(node) if id(node) not in types else ():
            mutant = copy.deepcopy(tree)
            change(list(ast.walk(mutant))[place])
            place_in_line = f"columns {getattr(node, 'col_offset', 0)}-{getattr(node, 'end_col_offset', 0)}"
            yield (
                getattr(node, "lineno", 0),
                f"{what} ({place_in_line})",
                ast.unparse(ast.fix_missing_locations(mutant)),
            )


def types_of(node: ast.AST) -> Iterator[ast.AST]:
    """The types and decorators written at a node, which compute nothing."""
    yield from getattr(node, "decorator_list", ())
    for name in ("annotation", "returns"):
        if isinstance(type_ := getattr(node, name, None), ast.AST):
            yield type_


def changes(node: ast.AST) -> Iterator[tuple[str, Callable[[Any], None]]]:
    """What can be changed at one node of the syntax tree: a description, and a function that does it."""
    if isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp) and type(node.op) in SWAPS:
        other = SWAPS[type(node.op)]
        yield f"{type(node.op).__name__} -> {other.__name__}", lambda n: setattr(n, "op", other())
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        to = SWAPS[type(node.ops[0])]
        yield f"{type(node.ops[0]).__name__} -> {to.__name__}", lambda n: setattr(n, "ops", [to(), *n.ops[1:]])
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield f"{node.value} -> {not node.value}", lambda n: setattr(n, "value", not n.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield f"{node.value} -> {node.value + 1}", lambda n: setattr(n, "value", n.value + 1)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "minus dropped", lambda n: setattr(n, "op", ast.UAdd())
    if isinstance(node, ast.If | ast.IfExp):
        yield "condition negated", lambda n: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
        method = METHODS[node.func.attr]
        yield f"{node.func.attr} -> {method}", lambda n: setattr(n.func, "attr", method)


# Running


class Failures:
    """A plugin of pytest that keeps the names of what failed."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.names.append(report.nodeid)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.names.append(report.nodeid)


def failing_tests(names: Sequence[str], jobs: int) -> dict[str, list[str]]:
    """The tests of each target that fail on the unchanged code, which then say nothing of a mutant."""
    failing: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        starts = ((n, partial(start, arguments(n), None, folder / n, 0, folder / f"{n}.txt")) for n in names)
        for name, _, seconds in ended(starts, jobs):
            told = json.loads((folder / name).read_text(encoding="utf-8")) if (folder / name).exists() else {}
            if told.get("code") not in (0, 1):
                raise SystemExit(f"The tests of {name} do not run:\n{(folder / f'{name}.txt').read_text()}")
            failing[name] = told["failed"]
            print(f"{name}: its tests take {seconds:.0f} s", flush=True)
            for test in failing[name]:
                print(f"  left out, since it fails on the unchanged code: {test}", flush=True)
    return failing


def tried(
    mutants: Sequence[Mutant], failing: dict[str, list[str]], jobs: int, timeout: int, until: float
) -> Iterator[Result]:
    """Run the tests on each mutant, and give the results as they come."""
    with tempfile.TemporaryDirectory() as folder:

        def starts() -> Iterator[tuple[Mutant, Callable[[], int]]]:
            for mutant in mutants:
                if time.monotonic() >= until:
                    return
                left_out = [f"--deselect={test}" for test in failing[mutant.target]]
                options = [*arguments(mutant.target), "-x", *left_out]
                yield mutant, partial(start, options, mutant, Path(folder) / mutant.key, timeout)

        for mutant, status, seconds in ended(starts(), jobs):
            report = Path(folder) / mutant.key
            if report.exists():
                told = json.loads(report.read_text(encoding="utf-8"))
                if not told["read"]:
                    raise SystemExit(f"The tests of {mutant.target} do not import {mutant.file}.")
                yield result_of(mutant, "killed" if told["code"] else "survived", (told["failed"] or [""])[0], seconds)
            else:
                timed_out = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM
                yield result_of(mutant, "timeout" if timed_out else "killed", f"status {status}", seconds)


def ended(starts: Iterable[tuple[Key, Callable[[], int]]], jobs: int) -> Iterator[tuple[Key, int, float]]:
    """Start processes, so many at the same time, and give the status and the seconds of each as it ends."""
    queue, running = iter(starts), dict[int, tuple[Key, float]]()
    while True:
        for key, begin in itertools.islice(queue, jobs - len(running)):
            running[begin()] = key, time.monotonic()
        if not running:
            return
        child, status = os.wait()
        key, began = running.pop(child)
        yield key, status, time.monotonic() - began


def start(
    options: list[str], mutant: Mutant | None, report: Path, timeout: int, output: Path | str = os.devnull
) -> int:
    """The id of a process that runs tests on a mutant, or on the unchanged code, and writes what failed."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    try:
        file = os.open(output, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, 1)
        os.dup2(file, 2)
        signal.alarm(timeout)
        import pytest

        served = [] if mutant is None else serve(ROOT / mutant.file, mutant.source)
        failures = Failures()
        code = int(pytest.main(options, plugins=[failures]))
        told = {"code": code, "failed": failures.names, "read": bool(served)}
        report.write_text(json.dumps(told), encoding="utf-8")
    finally:  # nothing of the parent's is cleaned up here
        os._exit(0)


def serve(path: Path, source: str) -> list[str]:
    """From now on the import system reads this source in the place of a file; the list says when it did."""
    sys.dont_write_bytecode = True
    served: list[str] = []
    original = SourceFileLoader.get_data

    def get_data(self: Any, name: str) -> bytes:
        if Path(name) == path:
            served.append(name)
            return source.encode()
        if name.endswith(".pyc") and Path(name).name.startswith(f"{path.stem}."):
            raise OSError(f"{name} is of the unchanged code")
        return original(self, name)

    SourceFileLoader.get_data = get_data  # type: ignore[method-assign, assignment]
    return served


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
