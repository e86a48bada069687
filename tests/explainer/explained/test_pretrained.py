"""No code of strangers runs, whatever is loaded; and models that are not all there are refused."""

import builtins
import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from explainer.attributor import Attributor
from explainer.attributor.pipeline import PipelineModel
from explainer.explained import ExplainedModel, TextClassification, loading, pretrained
from explainer.explained.image import ExplainedImageModel
from explainer.explained.pretrained import dtype_named
from explainer.explainers.folder import save_folder
from tests.explainer.tools import moved, saved
from tests.families import explained

# peft 0.21 asks transformers 5.23 by its old name: https://github.com/huggingface/peft
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The folder of a tiny BERT."""
    return Path(saved(explained("bert"), tmp_path / "model"))


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


# Code


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Make a folder's model one of a kind of its own, with code for it; asking on the terminal is an error."""

    def ask(*_: object) -> str:
        raise AssertionError("asked on the terminal")

    def spoil(folder: Path) -> None:
        lines = [f"open({str(tmp_path / 'marker')!r}, 'w')", "from transformers import *"]
        lines += ["class C(BertConfig): model_type = 'evil'", "M = BertForSequenceClassification"]
        lines += ["T = BertTokenizer", "P = ViTImageProcessor"]
        (folder / "evil.py").write_text("\n".join(lines))
        names = {"AutoConfig": "evil.C", "AutoModel": "evil.M", "AutoModelForSequenceClassification": "evil.M"}
        names |= {"AutoTokenizer": ["evil.T", None], "AutoModelForImageClassification": "evil.M"}
        names |= {"AutoImageProcessor": "evil.P"}
        for file in ("config.json", "tokenizer_config.json"):
            change(folder / file, model_type="evil", auto_map=names)

    monkeypatch.setattr(builtins, "input", ask)
    return spoil


def adapter_of(base: Path, folder: Path) -> Path:
    model = AutoModelForSequenceClassification.from_pretrained(base)
    get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"])).save_pretrained(folder)
    return folder


def exported_from(base: Path, folder: Path) -> Path:
    explained = ExplainedModel.from_pretrained(base)
    save_folder(explained, moved(explained, "side", width=8), folder)
    return folder


def with_task(folder: Path) -> Any:
    return ExplainedModel.from_pretrained(folder, task=TextClassification.of(explained("bert").model))


WAYS: dict[str, Callable[[Path], Any]] = {
    "a model": ExplainedModel.from_pretrained,
    "a model of a task": with_task,
    "a base to train": lambda folder: loading.load_base(str(folder), ["no", "yes"], torch.float32),
    "a pipeline": lambda folder: PipelineModel.from_pretrained(str(folder)),
    "a method": lambda folder: Attributor.of(str(folder), "random"),
    "images": ExplainedImageModel.from_pretrained,
}
THROUGH: dict[str, tuple[Callable[[Path, Path], Path], Callable[[Path], Any]]] = {
    "an adapter's base": (adapter_of, ExplainedModel.from_pretrained),
    "an attributor's model": (exported_from, Attributor.from_pretrained),
}


@pytest.mark.parametrize("way", [*WAYS, *THROUGH])
def test_code_that_comes_with_a_model_never_runs_nor_is_asked_for(
    way: str, model: Path, evil: Callable[[Path], None], tmp_path: Path
) -> None:
    make, load = THROUGH[way] if way in THROUGH else (lambda base, _: base, WAYS[way])
    folder = make(model, tmp_path / "of-it")
    evil(model)
    with pytest.raises(ValueError, match="it needs code that comes with its files, and Amortex never runs such code"):
        load(folder)
    assert not (tmp_path / "marker").exists()


def test_code_of_a_tokenizer_never_runs(model: Path, evil: Callable[[Path], None], tmp_path: Path) -> None:
    known = (model / "config.json").read_text()
    evil(model)
    (model / "config.json").write_text(known)
    change(model / "tokenizer_config.json", tokenizer_class="T")
    ExplainedModel.from_pretrained(model)  # read by the class that its config.json names
    assert not (tmp_path / "marker").exists()


class Evil:
    """Pickled, it is a call of `os.mkdir`."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.marker),)


def test_a_pickle_of_weights_runs_nothing(model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").unlink()
    torch.save({"classifier.bias": Evil(tmp_path / "marker")}, model / "pytorch_model.bin")
    with pytest.raises(ValueError, match="could not be loaded"):
        ExplainedModel.from_pretrained(model)
    assert not (tmp_path / "marker").exists()


def test_attention_code_on_the_hub_is_refused(model: Path) -> None:
    change(model / "config.json", attn_implementation="someone/fast-attention")
    with pytest.raises(ValueError, match=r"names attention code on the hub \('someone/fast-attention'\)"):
        ExplainedModel.from_pretrained(model)


# What is not there


def change_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    edit(weights)
    save_file(weights, path, metadata={"format": "pt"})


def test_a_classifier_without_its_head_or_pooler_is_refused(model: Path) -> None:
    change_weights(model, lambda weights: weights.pop("bert.pooler.dense.weight"))
    with pytest.raises(ValueError, match=r"not all there: 1 of its weights .* such as 'bert\.pooler\.dense\.weight'"):
        ExplainedModel.from_pretrained(model)
    change_weights(model, lambda weights: (weights.pop("classifier.weight"), weights.pop("classifier.bias")))
    with pytest.raises(ValueError, match=r"not all there: 3 of its weights .* such as 'bert\.pooler\.dense\.weight'"):
        with_task(model)


def test_numbers_that_are_none_are_refused(model: Path) -> None:
    change_weights(model, lambda weights: weights["classifier.bias"].fill_(torch.nan))
    with pytest.raises(ValueError, match=r"is broken: its weight 'classifier\.bias' holds NaN or infinite numbers"):
        ExplainedModel.from_pretrained(model)


CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "fewer layers": ({"num_hidden_layers": 1}, r"counts fewer layers than its weights have"),
    "more layers": ({"num_hidden_layers": 3}, r"not all there: 16 of its weights are in no file"),
    "a million layers": ({"num_hidden_layers": 10**6}, r"its config\.json has 1000000 layers"),
    "a huge width": ({"hidden_size": 20_000}, r"its config\.json wants [\d,]+ weights, and the file holds [\d,]+\."),
    "a huge vocabulary": ({"vocab_size": 10**9}, r"its config\.json wants [\d,]+ weights"),
    "another width": ({"intermediate_size": 33}, r"are in no file, or have another shape there, such as"),
    "a width of text": ({"hidden_size": "16"}, r"could not be loaded"),
    "no heads": ({"num_attention_heads": 0}, r"could not be loaded"),
    "another kind": ({"model_type": "unheard-of"}, r"could not be loaded"),
    "labels that are none": ({"id2label": 3}, r"could not be loaded"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_config_that_does_not_fit_its_weights_is_refused(case: str, model: Path) -> None:
    values, told = CONFIGS[case]
    change(model / "config.json", **values)
    with pytest.raises(ValueError, match=told):
        ExplainedModel.from_pretrained(model)


def test_a_truncated_file_is_refused(model: Path) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"model\.safetensors' is missing or broken"):
        ExplainedModel.from_pretrained(model)


def test_a_pipe_is_not_waited_for(model: Path) -> None:
    path = exported_from(model, model.parent / "attributor") / "config.json"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r"config\.json' is missing"):
        Attributor.from_pretrained(path.parent)


def test_a_gguf_file_needs_its_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"is a GGUF file, and reading it needs the package `gguf`: .*extra `llm`"):
        pretrained.config_of(str(tmp_path / "model.gguf"))


def test_a_precision_has_a_name() -> None:
    assert dtype_named("bfloat16") is torch.bfloat16
    with pytest.raises(ValueError, match="`--dtype` must be one of float32, bfloat16, float16, got 'double'"):
        dtype_named("double", "--dtype")
