"""The house as a test: each part of the package stands on a floor and imports only from the floors below it."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = [
    {"explainer.typing", "explainer.extras"},
    {"explainer.scored_text"},
    {"explainer.data", "explainer.metrics"},
    {"explainer.explained", "explainer.rendering"},
    {"explainer.explainers", "explainer.attention_heads", "explainer.faithfulness", "explainer.explanation"},
    {"explainer.storage"},
    {"explainer.methods"},
    {"explainer.evaluation", "explainer.export", "explainer.interchange"},
    {"explainer.attributor"},
    {"explainer.demo"},
    {"explainer.commands"},
    {"explainer"},
    {"lightning_modules"},
    {"amortex"},
]
OURS = ("amortex", "explainer", "lightning_modules")
FILES = sorted(path for folder in OURS for path in (ROOT / folder).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """The modules that a file imports, inside functions too; `from package import name` counts as package.name."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            module = node.module or ""
            modules |= {f"{module}.{name.name}" for name in node.names} if module == "explainer" else {module}
    return modules


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def part_of(module: str) -> str:
    """The first-level part that a module belongs to; a name that `explainer` re-exports belongs to `explainer`."""
    parts = module.split(".")
    part = ".".join(parts[:2]) if parts[0] == "explainer" else parts[0]
    return part if any(part in floor for floor in FLOORS) else parts[0]


def floor_of(part: str) -> int:
    return next(number for number, floor in enumerate(FLOORS) if part in floor)


def parts_imported(path: Path) -> set[str]:
    """The other parts of this project that a file imports."""
    parts = {part_of(module) for module in imported(path) if module.split(".")[0] in OURS}
    return parts - {part_of(module_of(path))}


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_file_imports_only_from_the_floors_below(path: Path) -> None:
    own = floor_of(part_of(module_of(path)))
    assert {part for part in parts_imported(path) if floor_of(part) >= own} == set()


def test_the_parts_have_no_import_cycle() -> None:
    graph: dict[str, set[str]] = {}
    for path in FILES:
        graph.setdefault(part_of(module_of(path)), set()).update(parts_imported(path))
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    assert order[-1] == "amortex"


def test_every_part_has_a_floor_and_every_floor_exists() -> None:
    parts = {".".join(module_of(path).split(".")[:2]) for path in FILES if module_of(path).startswith("explainer")}
    assert parts == set().union(*FLOORS) - {"amortex", "lightning_modules"}


def test_few_files_lie_loose() -> None:
    assert len(list((ROOT / "explainer").glob("*.py"))) <= 4


@pytest.mark.parametrize("path", [path for path in FILES if "explainer" in path.relative_to(ROOT).parts], ids=module_of)
def test_explainer_never_imports_lightning(path: Path) -> None:
    roots = {module.split(".")[0] for module in imported(path)}
    assert not roots & {"lightning", "pytorch_lightning", "lightning_modules"}


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_lightning_goes_by_one_name(path: Path) -> None:
    assert "lightning" not in {module.split(".")[0] for module in imported(path)}


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_text_files_are_in_utf_8_whatever_the_locale(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
        method = isinstance(node.func, ast.Attribute)
        text = (name in ("read_text", "write_text") and method) or (name == "open" and not _is_binary(node))
        assert not text or any(keyword.arg == "encoding" for keyword in node.keywords), f"{path}, line {node.lineno}"


def _is_binary(call: ast.Call) -> bool:
    """Whether a call of `open` reads or writes bytes, or is that of another module than a file's."""
    if isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", None) in ("os", "gzip"):
        return True
    return any(isinstance(mode, ast.Constant) and "b" in str(mode.value) for mode in call.args)
