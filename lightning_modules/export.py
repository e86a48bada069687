"""`explainer export`: a training checkpoint becomes a folder that can be loaded, shared and served."""

import importlib
import json
from pathlib import Path
from typing import Any

import torch

from lightning_modules.base import TrainingModule
from lightning_modules.baseline import BaselineTraining
from lightning_modules.card import baseline_card, classifier_card, explainer_card
from lightning_modules.classifier import ClassifierTraining
from lightning_modules.mask import MaskTraining

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def export(ckpt: Path, output: Path, dtype: str = "float32", scores: Path | None = None) -> None:
    """Write config, weights (only what was trained) and a model card from a checkpoint.

    Args:
        ckpt: a checkpoint that `explainer fit` wrote.
        output: the folder to write; made if it is not there.
        dtype: of the stored weights of an explainer: float32 (equal to the bit), bfloat16 or float16 (half the size).
        scores: comparison.json of `explainer test`, to be told in the card.
    """
    if dtype not in DTYPES:
        raise ValueError(f"`--dtype` must be one of {', '.join(DTYPES)}, got {dtype!r}.")
    if scores is not None and not scores.is_file():
        raise ValueError(f"`--scores {scores}` is not there: `explainer test` writes it.")
    module, checkpoint = load_training(ckpt)
    output.mkdir(parents=True, exist_ok=True)
    comparison = None if scores is None else json.loads(scores.read_text())
    if isinstance(module, MaskTraining):
        module.export(output, dtype=DTYPES[dtype])
        card = explainer_card(checkpoint, output, comparison)
    elif isinstance(module, BaselineTraining):
        module.export(output)
        card = baseline_card(checkpoint, output)
    else:
        assert isinstance(module, ClassifierTraining)
        module.export(output)
        card = classifier_card(checkpoint, output)
    (output / "README.md").write_text(card)


def load_training(ckpt: Path) -> tuple[TrainingModule, dict[str, Any]]:
    """The module of a checkpoint with its trained weights, in eval mode, and the checkpoint itself.

    Raises:
        ValueError: when the file is missing, broken, or not of `explainer fit`.
    """
    try:
        checkpoint = torch.load(ckpt, map_location="cpu", weights_only=True)
        path, _, name = checkpoint["amortex_module"].rpartition(".")
    except Exception as error:
        raise ValueError(f"`--ckpt {ckpt}` is missing, broken, or no checkpoint of `explainer fit`: {error}") from error
    kind: type[TrainingModule] = getattr(importlib.import_module(path), name)
    return kind.load_from_checkpoint(ckpt, map_location="cpu", weights_only=True).eval(), checkpoint
