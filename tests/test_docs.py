"""The pages of the documentation: links and names are right, tables are those of the code, and the code shown runs."""

import importlib
import inspect
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from explainer.data.catalog import CATALOG
from explainer.explained import PromptedClassification
from explainer.explainers import EXPLAINERS
from explainer.explainers.config import ExportConfig
from explainer.explanation import Explanation
from explainer.faithfulness.measures import METRIC_SPECS, METRICS
from explainer.faithfulness.perturbation import Operator
from explainer.methods import METHODS
from explainer.storage.shards import COLUMNS
from lightning_modules.cli import FUNCTIONS
from lightning_modules.data.text import TextData
from lightning_modules.mask import MaskTraining
from lightning_modules.response import ResponseTraining
from tests.pages import DOCS, PAGES, ROOT, blocks, clone, commands, expected_output, run_command
from tests.test_layers import FLOORS, floor_of

RESULTS = ROOT / "docs" / "results"
REFERENCE = ROOT / "docs" / "reference"
INTERVAL = re.compile(r"\[-?\d+\.\d+, -?\d+\.\d+\]")
# Pages whose code runs; the commands of the results took hours.
RUNNING = [ROOT / "CONTRIBUTING.md", *(page for page in DOCS if page.parent != RESULTS)]
OF_README = commands(ROOT / "README.md")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def paragraphs(page: Path) -> list[str]:
    """The parts of a page that blank lines separate, each on one line; the title is the first."""
    return [" ".join(part.split()) for part in prose(page).split("\n\n") if part.strip()]


def anchors(page: Path) -> set[str]:
    """The names by which links reach the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def sections(page: Path, level: int) -> dict[str, str]:
    """The text below each heading of a level, by the heading."""
    mark = "#" * level
    parts = re.split(rf"^{mark} (.+)$", page.read_text(), flags=re.MULTILINE)[1:]
    bodies = [re.split(rf"^#{{1,{level}}} ", body, flags=re.MULTILINE)[0] for body in parts[1::2]]
    return dict(zip(parts[::2], bodies, strict=True))


def table(text: str, first: str) -> list[list[str]]:
    """The rows of the table whose head begins with `first`, cell by cell."""
    head = re.search(rf"^\| {re.escape(first)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text + "\n", flags=re.MULTILINE)
    assert head is not None, f"no table of {first}"
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in head[1].splitlines()]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


# Links, names, form


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, anchor = target.partition("#")
        if path.startswith("http"):
            continue
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


@every_page
def test_files_named_exist(page: Path) -> None:
    folders = "explainer|lightning_modules|configs|docs|checkpoints|benchmarks|examples|tests"
    named = re.findall(rf"(?<![\w/])((?:{folders})/[\w/.-]*\w/?)", page.read_text())
    missing = {name for name in named if not (ROOT / name).exists() and not (ROOT / name.rstrip(".")).exists()}
    assert missing == set()


def test_pages_named_in_the_code_exist() -> None:
    folders = ("explainer", "lightning_modules", "benchmarks", "configs", "examples", "checkpoints")
    files = [file for folder in folders for kind in ("py", "yaml", "md") for file in (ROOT / folder).rglob(f"*.{kind}")]
    named = {name for file in files for name in re.findall(r"\bdocs/[\w/.-]*\w", file.read_text())}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_page_and_picture_is_linked() -> None:
    linked: set[Path] = set()
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)", prose(page)):
            linked.add((page.parent / target).resolve())
    pictures = sorted((ROOT / "docs" / "images").glob("*"))
    assert [str(file) for file in [*DOCS, *pictures] if file not in linked] == []


@every_page
def test_a_page_opens_with_what_it_is_for(page: Path) -> None:
    title, opening, *rest = paragraphs(page)
    assert title.startswith("# ")
    assert re.fullmatch(r"\**[A-Z].{30,}[.:]\**", opening)
    if page.parent == RESULTS:
        assert re.search(r"\d", opening), "the result in numbers"
        assert len(re.findall(r"\.(?=\s|$)", opening)) == 1, "one sentence"
        assert any(part.startswith("This page ") for part in rest[:3])
    elif page.name != "README.md" or page.parent != ROOT:
        assert opening.startswith(("This page ", "This guide "))


@every_page
def test_tables_of_intervals_are_results(page: Path) -> None:
    rows = [line for line in page.read_text().splitlines() if line.startswith("|") and INTERVAL.search(line)]
    if page.parent != RESULTS and page != ROOT / "README.md":
        assert rows == []


def test_the_results_have_intervals() -> None:
    assert sum(len(INTERVAL.findall(page.read_text())) for page in DOCS if page.parent == RESULTS) > 300


# The reference is that of the code


def test_the_methods_are_those_of_the_code() -> None:
    page = REFERENCE / "methods.md"
    rows = table(page.read_text(), "name")
    assert [quoted(row[0])[0] for row in rows] == list(METHODS)
    described = {m[1]: text for text in sections(page, 3).values() if (m := re.match(r"\s*`(\w+)` · ", text))}
    assert set(described) == set(METHODS)
    for name, text in described.items():
        settings = {field.name for field in fields(METHODS[name]) if field.init}
        assert set(quoted(text.strip().split("\n\n")[0])) == {name, *settings}, name
        assert "Source:" in text or name in ("random", "greedy_deletion", "greedy_keeping"), name


@pytest.mark.parametrize("name", METHODS)
def test_the_costs_of_methods_are_those_of_the_code(name: str) -> None:
    (cost,) = [row[2] for row in table((REFERENCE / "methods.md").read_text(), "name") if f"`{name}`" in row[0]]
    n = 40
    expected = {"n": float(n), "3/8 n²": 3 / 8 * n**2}.get(cost)
    assert METHODS[name]().forward_equivalents(n) == pytest.approx(
        float(cost) if expected is None else expected, rel=0.05
    )


def test_the_metrics_are_those_of_the_code() -> None:
    parts = sections(REFERENCE / "metrics.md", 2)
    rows = {
        section: {quoted(row[0])[0]: row for row in table(parts[section], "metric")}
        for section in ("Metrics of probabilities", "Metrics of values")
    }
    assert {name for part in rows.values() for name in part} == set(METRIC_SPECS)
    assert tuple(rows["Metrics of probabilities"])[: len(METRICS)] == METRICS
    for section, part in rows.items():
        for name, (_, formula, operator, better) in part.items():
            spec = METRIC_SPECS[name]
            assert formula
            assert quoted(operator) == [spec.operator], name
            assert better == ("high" if spec.metric.higher_is_better else "low"), name
            assert spec.needs_probabilities == (section == "Metrics of probabilities"), name
    assert [quoted(row[0])[0] for row in table(parts["Operators"], "operator")] == list(get_args(Operator))


def options(text: str) -> dict[str, str]:
    """The options of a table with their defaults."""
    return {quoted(row[0])[0].removeprefix("--"): row[1] for row in table(text, "option")}


def expected_options(function: Any) -> dict[str, str]:
    """The parameters of a function with their defaults, as the tables write them."""
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]

    def written(parameter: inspect.Parameter) -> str:
        if parameter.default is parameter.empty:
            return "required"
        if parameter.default is None or parameter.default == "":
            return ""
        return f"`{parameter.default if isinstance(parameter.default, str) else json.dumps(parameter.default)}`"

    return {parameter.name: written(parameter) for parameter in parameters}


@pytest.mark.parametrize("command", FUNCTIONS)
def test_the_options_of_commands_are_those_of_the_code(command: str) -> None:
    function = getattr(importlib.import_module(FUNCTIONS[command]), command)
    text = sections(REFERENCE / "cli.md", 2)[f"explainer {command}"]
    assert options(text) == expected_options(function)


@pytest.mark.parametrize(
    ("heading", "kind"),
    [("The explainer", MaskTraining), ("The explainer of responses", ResponseTraining), ("The data", TextData)],
)
def test_the_options_of_training_are_those_of_the_code(heading: str, kind: type) -> None:
    assert options(sections(REFERENCE / "cli.md", 3)[heading]) == expected_options(kind)


def test_the_data_sets_are_those_of_the_catalog() -> None:
    rows = {quoted(row[0])[0]: row[2] for row in table(sections(REFERENCE / "cli.md", 3)["The data"], "option")}
    assert quoted(rows["name"]) == list(CATALOG)


def test_command_lines_use_options_that_exist() -> None:
    unknown = []
    for page in PAGES:
        for words in commands(page):
            if words[0] == "explainer" and words[1] in FUNCTIONS:
                function = getattr(importlib.import_module(FUNCTIONS[words[1]]), words[1])
                given = {word[2:].split("=")[0].replace("-", "_") for word in words if word.startswith("--")}
                unknown += sorted(given - set(inspect.signature(function).parameters))
            elif words[0] == "python" and not (ROOT / words[1]).is_file():
                unknown.append(words[1])
    assert unknown == []


def test_the_file_formats_are_those_of_the_code() -> None:
    parts = sections(REFERENCE / "file-formats.md", 2)
    columns = [name for row in table(parts["Parquet shards"], "column") for name in quoted(row[0])]
    assert sorted(columns) == sorted(["id", *COLUMNS])
    keys = {name for row in table(parts["The folder of an exported explainer"], "key") for name in quoted(row[0])}
    assert keys == {field.name for field in fields(ExportConfig)}
    kinds = table(parts["The folder of an exported explainer"], "key")[0][1]
    assert set(quoted(kinds)) - {"kind"} == set(EXPLAINERS)
    written = parts["JSON lines"].split("It writes")[1]
    record = {name for row in table(written, "key") for name in quoted(row[0])}
    assert record - {"id", "words", "units"} <= {field.name for field in fields(Explanation)}


def test_the_code_map_names_every_part_from_the_lowest_floor_up() -> None:
    cells = [row[0] for row in table((ROOT / "CONTRIBUTING.md").read_text(), "part")]
    parts = [quoted(cell)[0].removesuffix(".py").rstrip("/").replace("/", ".") for cell in cells]
    assert set(parts) == set().union(*FLOORS) - {"explainer"}
    floors = [floor_of(part) for part in parts]
    assert floors == sorted(floors)


# The code runs


def test_configurations_shown_are_those_of_a_module() -> None:
    shown = [block for page in DOCS for block in blocks(page, "yaml")]
    assert shown
    for block in shown:
        values = yaml.safe_load(block.code)
        if "model" not in values:
            assert PromptedClassification.of(values).labels
            continue
        model = values["model"]
        assert model["class_path"] == f"{MaskTraining.__module__}.{MaskTraining.__name__}"
        assert set(model["init_args"]) <= set(inspect.signature(MaskTraining).parameters)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a fresh clone, with texts to explain and to train on; all pages run in it."""
    return clone(tmp_path_factory.mktemp("clone"))


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_every_command_runs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command once; those of the README run in the README's own test."""
    monkeypatch.chdir(place)
    seen = [words for words in OF_README if words[0] == "explainer"]
    pages = sorted(RUNNING, key=lambda page: page.name != "getting-started.md")  # its run is what others continue
    for page in pages:
        for words in commands(page, runs_only=True):
            if words[0] == "explainer" and (words not in seen or page.name == "getting-started.md"):
                run_command(words)
                seen.append(words)
    # Thirty trainings, and a server.
    assert {words[1] for words in seen} >= {"fit", "test", *FUNCTIONS} - {"search", "demo"}
    assert "<html" in (place / "runs/compare/report.html").read_text()
    assert set(json.loads((place / "metrics.json").read_text())) == set(METRICS)
    assert (place / "runs/imdb/part-00000.parquet").is_file()
    assert (place / "runs/self-contained/explained").is_dir()
    assert (place / "runs/model.onnx").is_file()
    assert (place / "heads.json").is_file()


@pytest.mark.parametrize("page", [page for page in RUNNING if blocks(page, "python")], ids=lambda page: page.stem)
def test_the_python_shown_runs_and_prints_what_is_shown(
    page: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("NO_COLOR", "1")
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page, "python"):
        if not block.runs:
            compile(block.code, str(page), "exec")
            continue
        exec(compile(block.code, str(page), "exec", dont_inherit=True), names)
        printed = capsys.readouterr().out.splitlines()
        assert [line for line in expected_output(block.code) if line not in printed] == []
