"""The benchmarks keep up with the package: each of them imports, where what it measures against is installed."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
FILES = sorted(FOLDER.glob("*.py"))


def imported(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location(f"benchmark_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_benchmark_imports_and_can_be_called(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(imported(path, monkeypatch).main)


def test_generated_inputs_are_read_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few of what `benchmarks/fuzz.py` tries many of; AMORTEX_EXAMPLES sets how many."""
    examples = int(os.environ.get("AMORTEX_EXAMPLES", "20"))
    fuzz = imported(FOLDER / "fuzz.py", monkeypatch)
    counts = {name: fuzz.run(name, examples) for name in fuzz.TARGETS}
    assert all(count.total() >= min(examples, 10) for count in counts.values()), counts
    assert all(count["read"] for count in counts.values()), counts


def test_tables_are_those_of_the_files_of_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """`python benchmarks/tables.py` would change nothing."""
    tables = imported(FOLDER / "tables.py", monkeypatch)
    marked = {page: text for page in tables.pages() if "<!-- table:" in (text := page.read_text(encoding="utf-8"))}
    assert marked
    assert {found[2] for text in marked.values() for found in tables.PLACE.finditer(text)} == set(tables.TABLES)
    for page, text in marked.items():
        assert tables.filled(text) == text, f"{page}: python benchmarks/tables.py"
