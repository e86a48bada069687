"""Which file may import which: each row from its own and the rows above it, and Lightning from the last one only."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROWS = [
    {"explainer.typing"},
    {"explainer.explained", "explainer.losses", "explainer.metrics", "explainer.data"},
    {
        "explainer.perturbation",
        "explainer.models",
        "explainer.aopc_bounds",
        "explainer.evaluation",
    },
    {
        "explainer.methods",
        "explainer.sanity",
        "explainer.heads",
        "explainer.exported",
        "explainer.named",
        "explainer.attributor",
        "explainer.explanation",
        "explainer.rendering",
        "explainer.cache",
        "explainer.comparison",
        "explainer.robustness",
        "explainer.commands",
        "explainer.compare",
        "explainer.provenance",
        "explainer.shards",
        "explainer.export",
        "explainer",
    },
    {"lightning_modules"},
]
FILES = sorted(path for folder in ("explainer", "lightning_modules") for path in (ROOT / folder).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """The modules that a file imports, inside functions too; `from package import name` counts as package.name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            module = node.module or ""
            found |= {f"{module}.{name.name}" for name in node.names} if module == "explainer" else {module}
    return found


def row(module: str) -> int | None:
    parts = module.split(".")
    part = parts[0] if parts[0] == "lightning_modules" else ".".join(parts[:2])
    rows = [i for i, names in enumerate(ROWS) if part in names]
    # A name that `explainer` re-exports is of the last row of the package.
    return rows[0] if rows else 3 if parts[0] == "explainer" else None


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_file_imports_from_its_own_row_or_those_above(path: Path) -> None:
    own = row(module_of(path))
    assert own is not None
    below = {module for module in imported(path) if (row(module) or 0) > own}
    assert below == set()


@pytest.mark.parametrize("path", [path for path in FILES if "lightning_modules" not in path.parts], ids=module_of)
def test_explainer_never_imports_lightning(path: Path) -> None:
    roots = {module.split(".")[0] for module in imported(path)}
    assert not roots & {"lightning", "pytorch_lightning", "lightning_modules"}


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_lightning_goes_by_one_name(path: Path) -> None:
    assert "lightning" not in {module.split(".")[0] for module in imported(path)}


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name == "metrics"], ids=module_of)
def test_metrics_never_see_a_model(path: Path) -> None:
    ours = {module for module in imported(path) if module.startswith("explainer")}
    assert all(module.startswith(("explainer.metrics", "explainer.typing")) for module in ours)


def test_every_file_of_the_package_has_a_row() -> None:
    named = set().union(*ROWS)
    parts = {".".join(module_of(path).split(".")[:2]) for path in FILES if "lightning_modules" not in path.parts}
    assert parts == named - {"lightning_modules"}
