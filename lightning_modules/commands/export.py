"""`explainer export`: a training checkpoint becomes a folder that can be loaded, shared and served."""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from explainer.attributor import Attributor
from explainer.attributor.base import AbstractAttributor
from explainer.data.files import load_files
from explainer.explained.pretrained import DTYPES, dtype_named
from explainer.export.agreement import Agreement
from explainer.export.hub import short_card
from explainer.export.sentences import SENTENCES
from explainer.storage.atomic import write_text
from lightning_modules.base import TrainingModule
from lightning_modules.baseline import BaselineTraining
from lightning_modules.classifier import ClassifierTraining
from lightning_modules.commands.card import (
    baseline_card,
    classifier_card,
    explainer_card,
    explainer_scores,
    fresh_card,
    image_classifier_card,
)
from lightning_modules.explainer_training import AbstractExplainerTraining
from lightning_modules.fresh import FreshTraining
from lightning_modules.image_classifier import ImageClassifierTraining
from lightning_modules.mask import MaskTraining
from lightning_modules.response import ResponseTraining

TRAININGS: dict[str, type[TrainingModule]] = {
    f"{kind.__module__}.{kind.__qualname__}": kind
    for kind in (
        BaselineTraining,
        ClassifierTraining,
        FreshTraining,
        ImageClassifierTraining,
        MaskTraining,
        ResponseTraining,
    )
}
"""The trainings whose checkpoints can be exported, by the name in the checkpoint."""


def export(
    ckpt: Path | None = None,
    attributor: str | None = None,
    output: Path | None = None,
    onnx: Path | None = None,
    pt2: Path | None = None,
    push: str | None = None,
    dtype: str = "float32",
    merge: bool = False,
    int8: bool = False,
    texts: Path | None = None,
    scores: Path | None = None,
    private: bool = False,
    license: str = "apache-2.0",
) -> None:
    """Write a trained network as a folder, as an ONNX file, as a torch.export program, or to the hub.

    From `--ckpt` or from `--attributor`, to one or several of `--output`, `--onnx`, `--pt2` and `--push`.

    Args:
        ckpt: a checkpoint that `explainer fit` wrote.
        attributor: folder or hub id of an exported attributor, instead of a checkpoint.
        output: the folder for the configuration, the trained weights and a model card.
        onnx: the ONNX file to write; its tokenizer and a JSON file of facts are written next to it.
        pt2: the torch.export program to write.
        push: hub id to upload the folder to.
        dtype: of the stored weights of an explainer or a baseline: float32 (equal to the bit), bfloat16 or float16
            (half the size).
        merge: put the explained classifier and its tokenizer into the folder, so that it loads anywhere.
        int8: quantise the ONNX file to int8; its agreement with PyTorch is printed.
        texts: a file with a column `text` (.csv, .tsv, .jsonl or .parquet), on which a program is checked and int8
            compared; built-in sentences by default.
        scores: comparison.json of `explainer test`, for the card.
        private: whether a new hub repository is private.
        license: for the card.
    """
    _check(ckpt, attributor, {"output": output, "onnx": onnx, "pt2": pt2, "push": push}, dtype, scores)
    comparison = None if scores is None else _scores(scores)
    source: AbstractAttributor
    if ckpt is None:
        source = Attributor.from_pretrained(str(attributor))
        card = _card_of(Path(str(attributor)))
    else:
        module, checkpoint = load_training(ckpt)
        if not isinstance(module, AbstractExplainerTraining):
            _export_other(module, checkpoint, output, DTYPES[dtype], license)
            return
        source, card = module.attributor, explainer_card(checkpoint, str(push or output), comparison, license)
    if output is not None:
        source.save_pretrained(output, DTYPES[dtype], merge)
        write_text(output / "README.md", card or short_card(str(output), source.explained, license))
        print(f"Written to {output}: config.json, model.safetensors, README.md.")
    checked = SENTENCES if texts is None else load_files({"all": str(texts)}, "text", None, None)["all"]["text"][:]
    if onnx is not None:
        _print_agreement(source.to_onnx(onnx, int8=int8, texts=checked))
    if pt2 is not None:
        source.to_exported_program(pt2, checked)
    if push is not None:
        print(source.push_to_hub(push, merge=merge, dtype=DTYPES[dtype], card=card, private=private))


def _check(
    ckpt: Path | None, attributor: str | None, goals: dict[str, Path | str | None], dtype: str, scores: Path | None
) -> None:
    if (ckpt is None) == (attributor is None):
        raise ValueError("Give `--ckpt CKPT`, or `--attributor DIR` of one that is exported already.")
    if not any(goals.values()):
        raise ValueError(f"Name what to write: {', '.join(f'`--{goal}`' for goal in goals)}.")
    dtype_named(dtype, "--dtype")
    if scores is not None and not scores.is_file():
        raise ValueError(f"`--scores {scores}` does not exist: `explainer test` writes it.")


def _export_other(
    module: TrainingModule, checkpoint: dict[str, Any], output: Path | None, dtype: torch.dtype, license: str
) -> None:
    """Write a learned baseline, a classifier's adapter or a language model; all are folders only."""
    if output is None:
        raise ValueError(f"`--ckpt` is of {type(module).__name__}, which only a folder can hold: give `--output DIR`.")
    output.mkdir(parents=True, exist_ok=True)
    if isinstance(module, BaselineTraining):
        module.export(output, dtype)
        card = baseline_card(checkpoint, output, license)
    elif isinstance(module, ImageClassifierTraining):
        module.export(output)
        card = image_classifier_card(checkpoint, output, license)
    elif isinstance(module, FreshTraining):
        module.export(output)
        card = fresh_card(checkpoint, output, license)
    else:
        assert isinstance(module, ClassifierTraining)
        module.export(output)
        card = classifier_card(checkpoint, output, license)
    write_text(output / "README.md", card)


def _card_of(folder: Path) -> str | None:
    card = folder / "README.md"
    return card.read_text(encoding="utf-8") if card.is_file() else None


def _scores(file: Path) -> list[dict[str, Any]]:
    """The records of a comparison.json, as far as a card reads them."""
    try:
        records = json.loads(file.read_text(encoding="utf-8"))
        explainer_scores(records)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise ValueError(f"`--scores {file}` is no comparison.json of `explainer test` ({error!r}).") from error
    return records


def _print_agreement(facts: dict[str, Any]) -> None:
    print(f"ONNX Runtime differs from PyTorch by at most {facts['largest_difference']:.1e}", file=sys.stderr)
    if "int8" in facts:
        print(f"int8: {Agreement(**facts['int8'])}", file=sys.stderr)


_OF_TRAINING = {"pretrained": None, "teachers": None, "teacher_weights": None, "matching": 0.0}
"""Settings that name other explainers, which a trained one does not need any more: their folders may be gone."""


def load_training(ckpt: Path) -> tuple[TrainingModule, dict[str, Any]]:
    """The module of a checkpoint with its trained weights, in eval mode, and the checkpoint itself.

    Raises:
        ValueError: when the file is missing, broken, or not of `explainer fit`.
    """
    wrong = f"`--ckpt {ckpt}` is missing, broken, or no checkpoint of `explainer fit`"
    try:
        if not ckpt.is_file():  # a pipe would be waited for
            raise FileNotFoundError("there is no such file")
        checkpoint = torch.load(ckpt, map_location="cpu", weights_only=True)
        name, weights = checkpoint["amortex_module"], checkpoint["state_dict"]
        # LightningCLI adds entries of its own; Lightning's loader would import the function that one of them names.
        settings = {key: value for key, value in checkpoint["hyper_parameters"].items() if not key.startswith("_")}
        if name not in TRAININGS:
            raise ValueError(f"it is of {name!r:.80}, which is none of {', '.join(TRAININGS)}")
        kind = TRAININGS[name]
        settings |= {key: value for key, value in _OF_TRAINING.items() if key in settings}
        kind.check_settings(settings, {key: tuple(weight.shape) for key, weight in weights.items()})
    except Exception as error:  # the file is a stranger's: any type of error may come out of it
        raise ValueError(f"{wrong}: {error}") from error
    try:
        module = kind(**settings)
        module.on_load_checkpoint(checkpoint)
        module.load_state_dict(weights)
    except (TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{wrong}: {error}") from error
    return module.eval(), checkpoint
