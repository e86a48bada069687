"""Folders that hold all they need, refuse what does not fit, and ship with the package."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from explainer.explained import ExplainedModel, Target, TextClassification
from explainer.explainers import EXPLAINERS, AbstractMaskExplainer
from explainer.explainers import folder as module
from explainer.explainers.config import ExportConfig
from explainer.explainers.folder import is_exported, load_exported, load_folder, save_folder
from tests.explainer.tools import LORA_WARNINGS, batch_of, fresh, moved, saved
from tests.families import FAMILIES, TASKS, TEXTS, explained

pytestmark = LORA_WARNINGS
ROOT = Path(__file__).parents[3]
TARGET = Target.of([1, 1, 1, 1])
Pair = tuple[ExplainedModel, AbstractMaskExplainer]


def exported(root: Path, kind: str = "separate", **task: Any) -> Pair:
    """root/model, root/explainer which refers to it, and what was saved there."""
    model = ExplainedModel.from_pretrained(saved(explained("bert", **task), root / "model"))
    explainer = moved(model, kind)
    save_folder(model, explainer, root / "explainer")
    return model, explainer


def scores(pair: Pair, target: Target = TARGET) -> Tensor:
    model, explainer = pair
    with torch.no_grad():
        return explainer(model, batch_of(model), target)


def change_config(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


@pytest.mark.parametrize("kind", EXPLAINERS)
def test_what_was_saved_is_loaded_equal_to_the_bit(kind: str, tmp_path: Path) -> None:
    pair = exported(tmp_path, kind)
    pair[1].longest_text = 17
    save_folder(*pair, tmp_path / "explainer")
    model, explainer = load_folder(str(tmp_path / "explainer"))
    assert torch.equal(scores((model, explainer)), scores(pair))
    assert explainer.settings == pair[1].settings
    assert explainer.longest_text == 17
    assert not explainer.training


@pytest.mark.parametrize("kind", EXPLAINERS)
def test_a_merged_folder_needs_no_other_and_is_equal_to_the_bit(kind: str, tmp_path: Path) -> None:
    pair = exported(tmp_path / "here", kind)
    save_folder(*pair, tmp_path / "merged", merge=True)
    shutil.rmtree(tmp_path / "here")
    shutil.move(tmp_path / "merged", tmp_path / "elsewhere")
    assert torch.equal(scores(load_folder(str(tmp_path / "elsewhere"))), scores(pair))


# AutoTokenizer splits the words of a folder of Qwen2 by Qwen2's own rule, whatever tokenizer was saved: a made-up one
# comes back as another, and is refused.
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "qwen2"])
def test_the_merged_model_predicts_to_the_bit_in_every_family(family: str, tmp_path: Path) -> None:
    model = fresh(family)
    model.name = None  # a merged folder refers to nothing
    save_folder(model, EXPLAINERS["lora"](model).eval(), tmp_path, merge=True)
    loaded, _ = load_folder(str(tmp_path))
    sequences = [text.tokens for text in model.encode(TEXTS)]
    assert torch.equal(loaded.predict(sequences).logits, explained(family).predict(sequences).logits)
    assert loaded.text.fingerprint == model.text.fingerprint
    assert not any("lora" in name for name in module.load_file(tmp_path / "explained" / "model.safetensors"))


def test_a_merged_folder_can_be_saved_again_next_to_it(tmp_path: Path) -> None:
    pair = exported(tmp_path)
    save_folder(*pair, tmp_path / "merged", merge=True)
    save_folder(*load_folder(str(tmp_path / "merged")), tmp_path / "small")
    assert json.loads((tmp_path / "small" / "config.json").read_text())["explained_model"] == "../merged/explained"
    assert torch.equal(scores(load_folder(str(tmp_path / "small"))), scores(pair))


def test_a_model_without_a_name_is_saved_merged_only(tmp_path: Path) -> None:
    model = fresh("bert")
    model.name = None
    with pytest.raises(ValueError, match=r"has no `name`.* Save it by `merge=True`"):
        save_folder(model, EXPLAINERS["separate"](model), tmp_path)


def test_the_config_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported(tmp_path)
    read, calls = ExportConfig.read, list[Path]()
    monkeypatch.setattr(ExportConfig, "read", lambda folder: calls.append(folder) or read(folder))
    load_folder(str(tmp_path / "explainer"))
    assert calls == [tmp_path / "explainer"]


@pytest.mark.parametrize("merge", [False, True])
def test_a_hub_id_fetches_the_files_that_are_needed(
    merge: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = exported(tmp_path)
    save_folder(*pair, tmp_path / "explainer", merge=merge)
    asked: list[tuple[str, list[str]]] = []

    def snapshot(name: str, *, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return str(tmp_path / "explainer")

    monkeypatch.setattr(module, "snapshot_download", snapshot)
    assert torch.equal(scores(load_folder("someone/an-explainer")), scores(pair))
    assert asked == [("someone/an-explainer", ["config.json", "model.safetensors", "explained/*"])]


def test_another_baseline_token_comes_back_from_a_merged_folder(tmp_path: Path) -> None:
    model = ExplainedModel.from_pretrained(saved(explained("bert"), tmp_path / "model"), baseline_token="the")
    save_folder(model, EXPLAINERS["separate"](model).eval(), tmp_path / "out", merge=True)
    assert load_folder(str(tmp_path / "out"))[0].baseline_token_id == model.baseline_token_id


def test_weights_are_copied_into_an_explainer_of_the_same_settings(tmp_path: Path) -> None:
    pair = exported(tmp_path)
    model = ExplainedModel.from_pretrained(tmp_path / "model")
    explainer = EXPLAINERS["separate"](model).eval()
    load_exported(tmp_path / "explainer", model, explainer)
    assert torch.equal(scores((model, explainer)), scores(pair))


def test_names_with_a_slash_and_folders_may_be_exported_explainers(tmp_path: Path) -> None:
    assert is_exported(str(tmp_path))
    assert is_exported("someone/an-explainer")
    assert not is_exported("sig")


# Tasks


@pytest.mark.parametrize("task", TASKS)
def test_an_explainer_of_any_task_comes_back_to_the_bit(task: str, tmp_path: Path) -> None:
    pair, target = exported(tmp_path, **TASKS[task]), Target.of([0, 0, 0, 0])
    loaded = load_folder(str(tmp_path / "explainer"))
    assert torch.equal(scores(loaded, target), scores(pair, target))
    config = json.loads((tmp_path / "explainer" / "config.json").read_text())
    assert config["task"] == pair[0].task.settings == loaded[0].task.settings


def test_a_folder_without_a_task_loads(tmp_path: Path) -> None:
    pair = exported(tmp_path)
    change_config(tmp_path / "explainer", task=None)
    assert torch.equal(scores(load_folder(str(tmp_path / "explainer"))), scores(pair))


def test_labels_may_be_renamed(tmp_path: Path) -> None:
    pair = exported(tmp_path)
    change_config(tmp_path / "explainer", task={**pair[0].task.settings, "labels": ["bad", "so-so", "good"]})
    assert torch.equal(scores(load_folder(str(tmp_path / "explainer"))), scores(pair))


def test_another_task_is_refused_and_may_be_passed(tmp_path: Path) -> None:
    """The same logits, once read as one label of several and once as labels that are decided by themselves."""
    model = ExplainedModel.from_pretrained(saved(explained("bert"), tmp_path / "model"))
    task = TextClassification.of(model.model, link="sigmoid")
    model = ExplainedModel(model.model, model.tokenizer, task=task, name=model.name)
    save_folder(model, moved(model, "side"), tmp_path / "explainer")
    with pytest.raises(ValueError, match=r"The task of .*'softmax'.* was trained for .*'sigmoid'.* the right `task`"):
        load_folder(str(tmp_path / "explainer"))
    assert load_folder(str(tmp_path / "explainer"), task=task)[0].task.link == "sigmoid"


def test_a_broken_task_is_refused(tmp_path: Path) -> None:
    exported(tmp_path)
    change_config(tmp_path / "explainer", task="text-classification")
    with pytest.raises(ValueError, match=r"(?s)is no exported explainer: .*`?task`?"):
        load_folder(str(tmp_path / "explainer"))


# What ships

SHIPPED = sorted(
    path.parent
    for path in (ROOT / "checkpoints").glob("*/config.json")
    if {"explainer", "explained_model"} <= set(json.loads(path.read_text()))
)
WITHOUT_LIGHTNING = """
import sys
sys.modules["pytorch_lightning"] = sys.modules["lightning"] = sys.modules["lightning_modules"] = None
from explainer.explained import Target
from explainer.methods.trained import Amortized
method = Amortized.load(sys.argv[1])
texts = method.explained.encode(["a gorgeous , witty film"])
[scores] = method.attribute(method.explained, texts, Target.of([1])).scores
assert scores.any()
print(len(scores))
"""


def test_both_kinds_are_shipped() -> None:
    assert [folder.name for folder in SHIPPED] == ["demo-attributor", "demo-side"]


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_a_shipped_explainer_loads_where_lightning_cannot_be_imported(folder: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_LIGHTNING, str(folder)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout.strip() == "7"


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_the_format_of_a_shipped_folder_is_the_one_that_is_written(folder: Path, tmp_path: Path) -> None:
    model, explainer = load_folder(str(folder))
    save_folder(model, explainer, tmp_path)
    shipped, written = (json.loads((path / "config.json").read_text()) for path in (folder, tmp_path))
    assert written.pop("task") == model.task.settings
    assert written.pop("probe_logits") == pytest.approx(shipped.pop("probe_logits"), abs=1e-3)
    different = {"explained_model"}  # relative to the folder
    assert {k: v for k, v in written.items() if k not in different} == {
        k: v for k, v in shipped.items() if k not in different
    }
    weights = [module.load_file(path / "model.safetensors") for path in (folder, tmp_path)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name].to(weights[0][name].dtype)) for name in weights[0])
