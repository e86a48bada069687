"""Folders that hold all they need, and what ships with the package."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from explainer.attributor import Attributor
from explainer.explained import ExplainedModel
from explainer.explainers import EXPLAINERS
from explainer.explainers.config import ExportConfig
from explainer.export import folder as module
from explainer.methods.trained.amortized import Amortized
from tests.explainer.attributor.test_attributor import exported, save_model
from tests.explainer.tools import LORA_WARNINGS, fresh
from tests.families import FAMILIES, TEXTS, explained

pytestmark = LORA_WARNINGS
ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("kind", EXPLAINERS)
def test_a_merged_folder_needs_no_other_and_is_equal_to_the_bit(kind: str, tmp_path: Path) -> None:
    attributor = exported(tmp_path / "here", kind)
    attributor.save_pretrained(tmp_path / "merged", merge=True)
    expected = attributor(TEXTS, target=1)
    shutil.rmtree(tmp_path / "here")
    shutil.move(tmp_path / "merged", tmp_path / "elsewhere")
    assert Attributor.from_pretrained(tmp_path / "elsewhere")(TEXTS, target=1) == expected


# AutoTokenizer splits the words of a folder of Qwen2 by Qwen2's own rule, whatever tokenizer was saved: a made-up one
# comes back as another, and is refused.
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "qwen2"])
def test_the_merged_model_predicts_to_the_bit_in_every_family(family: str, tmp_path: Path) -> None:
    model = fresh(family)
    model.name = None  # a merged folder refers to nothing
    explainer = EXPLAINERS["lora"](model).eval()
    Attributor(model, Amortized(explainer)).save_pretrained(tmp_path, merge=True)
    loaded = Attributor.from_pretrained(tmp_path).explained
    rows = [text.tokens for text in model.encode(TEXTS)]
    assert torch.equal(loaded.predict(rows), explained(family).predict(rows))
    assert loaded.text.fingerprint == model.text.fingerprint
    assert not any("lora" in name for name in module.load_file(tmp_path / "explained" / "model.safetensors"))


def test_a_merged_folder_can_be_saved_again_beside_it(tmp_path: Path) -> None:
    attributor = exported(tmp_path)
    attributor.save_pretrained(tmp_path / "merged", merge=True)
    Attributor.from_pretrained(tmp_path / "merged").save_pretrained(tmp_path / "small")
    assert json.loads((tmp_path / "small" / "config.json").read_text())["explained_model"] == "../merged/explained"
    assert Attributor.from_pretrained(tmp_path / "small")(TEXTS) == attributor(TEXTS)


def test_the_config_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported(tmp_path)
    read, calls = ExportConfig.read, list[Path]()
    monkeypatch.setattr(ExportConfig, "read", lambda folder: calls.append(folder) or read(folder))
    Attributor.from_pretrained(tmp_path / "attributor")
    assert calls == [tmp_path / "attributor"]


@pytest.mark.parametrize("merge", [False, True])
def test_a_hub_id_fetches_the_files_that_are_needed(
    merge: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attributor = exported(tmp_path)
    attributor.save_pretrained(tmp_path / "attributor", merge=merge)
    asked: list[tuple[str, list[str]]] = []

    def snapshot(name: str, *, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return str(tmp_path / "attributor")

    monkeypatch.setattr(module, "snapshot_download", snapshot)
    assert Attributor.from_pretrained("someone/an-explainer")(TEXTS) == attributor(TEXTS)
    assert asked == [("someone/an-explainer", ["config.json", "model.safetensors", "explained/*"])]


def test_another_baseline_token_comes_back_from_a_merged_folder(tmp_path: Path) -> None:
    save_model(explained("bert"), tmp_path / "model")
    model = ExplainedModel.from_pretrained(tmp_path / "model", baseline_token="the")
    Attributor(model, Amortized(EXPLAINERS["separate"](model).eval())).save_pretrained(tmp_path / "out", merge=True)
    assert Attributor.from_pretrained(tmp_path / "out").explained.baseline_token_id == model.baseline_token_id


# What ships

SHIPPED = sorted(
    path.parent
    for path in (ROOT / "checkpoints").glob("*/config.json")
    if {"explainer", "explained_model"} <= set(json.loads(path.read_text()))
)
WITHOUT_LIGHTNING = """
import sys
sys.modules["pytorch_lightning"] = sys.modules["lightning"] = sys.modules["lightning_modules"] = None
from explainer import Attributor
explanation = Attributor.from_pretrained(sys.argv[1])(["a gorgeous , witty film"])[0]
assert any(explanation.scores)
print([word.word for word in explanation.words()])
"""


def test_attributors_are_shipped() -> None:
    assert SHIPPED


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_a_shipped_attributor_loads_where_lightning_cannot_be_imported(folder: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_LIGHTNING, str(folder)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout.strip() == str(["a", "gorgeous", ",", "witty", "film"])
