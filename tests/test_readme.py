"""Every command and every line of Python in the README runs, in its order, on smaller budgets."""

import re
import subprocess
from pathlib import Path

import pytest

from explainer.methods import METHODS
from tests.pages import ROOT, blocks, clone, commands, expected_output, run_command
from tests.sequence_classifiers import MODEL_TYPES, NOT_BUILT, REFUSED

README = ROOT / "README.md"
COMMANDS = commands(README)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a fresh clone, with texts to explain."""
    return clone(tmp_path_factory.mktemp("clone"))


def test_the_readme_is_short_and_shows_the_commands_it_should() -> None:
    assert len(README.read_text().splitlines()) <= 120
    assert {command[1] for command in COMMANDS if command[0] == "explainer"} == {"fit", "test", "export", "attribute"}
    assert [command for command in COMMANDS if command[0] == "make"] == [["make", "demo"], ["make", "test"]]
    assert [command[:2] for command in COMMANDS if command[0] == "pip"] == [["pip", "install"]]


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_every_explainer_command_runs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    for command in COMMANDS:
        if command[0] == "explainer":
            run_command(command)
    assert len((place / "lrp.jsonl").read_text().splitlines()) == 2
    assert "<html" in (place / "page.html").read_text()
    assert (place / "runs/demo/comparison.json").is_file()
    assert (place / "runs/demo/attributor/model.safetensors").is_file()


def test_the_python_shown_runs_and_prints_what_is_shown(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("NO_COLOR", "1")
    names: dict[str, object] = {}
    for block in blocks(README, "python"):
        exec(block.code, names)
        printed = capsys.readouterr().out.splitlines()
        assert [line for line in expected_output(block.code) if line not in printed] == []
    assert names["explanation"].target_label == "positive"  # type: ignore[attr-defined]
    assert expected_output(blocks(README, "python")[0].code)


def test_make_names_the_targets_and_the_steps_of_the_demo() -> None:
    shown = subprocess.run(
        ["make", "-C", str(ROOT), "-n", "demo", "demo-llm", "test"], capture_output=True, text=True, check=True
    )
    wanted = ("explainer fit", "explainer test", "explainer export", "explainer attribute", "-m pytest")
    for part in (*wanted, "examples/explain_an_answer.py"):
        assert part in shown.stdout
    assert "venv" in shown.stdout or (ROOT / ".venv" / ".installed").exists()


def test_the_numbers_of_methods_and_families_are_right() -> None:
    text = README.read_text()
    assert {int(n) for n in re.findall(r"(\d+) (?:attribution )?methods\]", text)} == {len(METHODS)}
    assert re.findall(r"(\d+) model families", text) == [str(len(MODEL_TYPES) - len(REFUSED) - len(NOT_BUILT))]
