"""The folder of an exported explainer: saved, and loaded from a path or the hub."""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

from explainer.explained import ExplainedModel
from explainer.explained.loading import own_state_dict, quiet
from explainer.explainers import AbstractMaskExplainer
from explainer.explainers.config import CONFIG, MERGED, ExportConfig

WEIGHTS = "model.safetensors"


def save_folder(
    explained: ExplainedModel,
    explainer: AbstractMaskExplainer,
    folder: Path,
    dtype: torch.dtype | None = None,
    merge: bool = False,
) -> None:
    """Write config.json and model.safetensors.

    Args:
        dtype: of the weights in the file; by default their own.
        merge: writes the explained model and its tokenizer too, into the folder `explained`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = ExportConfig.of(explained, explainer, folder, merged=merge)
    if merge:
        # The weights of an adapter that the model was loaded with are part of these; the explainer's own are not.
        with quiet():
            explained.model.save_pretrained(folder / MERGED, state_dict=own_state_dict(explained.model))
        explained.tokenizer.save_pretrained(folder / MERGED)
    weights = {
        name: parameter.detach().cpu().to(dtype or parameter.dtype).contiguous()
        for name, parameter in explainer.trained(explained).items()
    }
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    config.write(folder)


def load_folder(name: str, model: str | None = None, **options: Any) -> tuple[ExplainedModel, AbstractMaskExplainer]:
    """The explained model and the explainer of a folder or hub id.

    Args:
        model: hub id or folder of the explained model, in place of the one that the folder refers to.
        options: of `ExplainedModel.from_pretrained`.

    Raises:
        ValueError: when there is no exported explainer, its files are broken, or the explained model is another.
    """
    folder = _local(name)
    config = ExportConfig.read(folder)
    reference = config.model_of(folder) if model is None else model
    explained = ExplainedModel.from_pretrained(reference, **{"baseline_token": config.baseline_token, **options})
    explainer = config.build(explained)
    _load(folder, config, explained, explainer)
    return explained, explainer


def load_exported(folder: Path, explained: ExplainedModel, explainer: AbstractMaskExplainer) -> None:
    """Copy an exported explainer's weights into one of the same kind and settings.

    Raises:
        ValueError: when the files are broken, or were exported for another explained model or another explainer.
    """
    _load(folder, ExportConfig.read(folder), explained, explainer)


def _load(folder: Path, config: ExportConfig, explained: ExplainedModel, explainer: AbstractMaskExplainer) -> None:
    config.check(explained)
    try:
        weights = load_file(folder / WEIGHTS)
    except Exception as error:
        raise ValueError(f"{str(folder / WEIGHTS)!r} is missing or broken: {error}") from error
    explainer.load_trained(explained, weights)
    explainer.longest_text = config.longest_text


def is_exported(name: str) -> bool:
    """Whether `name` is a folder or hub id that may hold an exported explainer, rather than a method's name."""
    return "/" in name or Path(name).is_dir()


def _local(name: str) -> Path:
    if Path(name).is_dir():
        return Path(name)
    try:
        return Path(snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS, f"{MERGED}/*"]))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(f"{name!r} is neither a folder nor a hub id that can be reached: {error}") from error
