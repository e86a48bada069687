"""Every command and every line of Python in the README runs, in its order, on smaller budgets."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from explainer.storage.shards import read_explanations
from lightning_modules.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [shlex.split(line, comments=True) for kind, block in BLOCKS if kind == "bash" for line in block.splitlines()]
# What makes a shown training run small enough for a test; nothing else is changed.
_FEW = ["--data.limit", "{train: 16, validation: 4, test: 4}", "--trainer.enable_progress_bar", "false"]
SMALL = {"fit": [*_FEW, "--trainer.max_epochs", "1"], "test": _FEW, "compare": ["--n", "4"], "predict": ["--n", "4"]}
PARSED = """# text = A witty film delights audiences.
1\tA\ta\tDET\tDT\t_\t3\tdet\t_\t_
2\twitty\twitty\tADJ\tJJ\t_\t3\tamod\t_\t_
3\tfilm\tfilm\tNOUN\tNN\t_\t4\tnsubj\t_\t_
4\tdelights\tdelight\tVERB\tVBZ\t_\t0\troot\t_\t_
5\taudiences\taudience\tNOUN\tNNS\t_\t4\tobj\t_\tSpaceAfter=No
6\t.\t.\tPUNCT\t.\t_\t4\tpunct\t_\t_

"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a fresh clone, with texts to explain."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("checkpoints", "configs"):
        shutil.copytree(ROOT / name, folder / name)
    rows = [{"text": "a gorgeous , witty film", "id": 7}, {"text": "tedious and dull", "target": "positive"}]
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "parsed.conllu").write_text(PARSED)
    return folder


def test_the_readme_shows_the_commands_it_should() -> None:
    shown = {command[1] for command in COMMANDS if command[0] == "explainer"}
    assert shown == {"fit", "test", "export", "attribute", "evaluate", "compare", "heads", "predict"}
    assert [command for command in COMMANDS if command[0] == "make"] == [["make", "demo"], ["make", "test"]]


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_every_explainer_command_runs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    for _, command, *arguments in [command for command in COMMANDS if command[0] == "explainer"]:
        main([command, *arguments, *SMALL.get(command, [])])
    assert len((place / "attributions.jsonl").read_text().splitlines()) == 2
    assert set(json.loads((place / "metrics.json").read_text())) >= {"comprehensiveness", "aopc_sufficiency"}
    assert (place / "heads.json").is_file()
    assert "<html" in (place / "runs/compare/report.html").read_text()
    assert (place / "runs/demo/attributor/model.safetensors").is_file()
    assert len(list(read_explanations(place / "runs/imdb"))) == 4
    assert (place / "runs/self-contained/explained").is_dir()
    assert (place / "runs/model.onnx").is_file()


def test_the_python_shown_runs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    names: dict[str, object] = {}
    for code in [block for kind, block in BLOCKS if kind == "python"]:
        exec(code, names)
    assert names["explanation"].target_label == "positive"  # type: ignore[attr-defined]
    assert "<html" in (place / "classes.html").read_text()


def test_make_names_the_targets_and_the_demo_s_steps() -> None:
    shown = subprocess.run(["make", "-C", str(ROOT), "-n", "demo", "test"], capture_output=True, text=True, check=True)
    for part in ("explainer fit", "explainer test", "explainer export", "explainer attribute", "-m pytest"):
        assert part in shown.stdout
    assert "venv" in shown.stdout or (ROOT / ".venv" / ".installed").exists()


def test_every_file_and_folder_named_is_there() -> None:
    named = set(re.findall(r"`((?:explainer|lightning_modules|configs|docs|checkpoints)/[\w/.-]*)`", README))
    named |= set(re.findall(r"\]\((docs/[\w./-]+)\)", README))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
