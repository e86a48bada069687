"""The folder of an exported explainer: saved, and loaded from a path or the hub."""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors.torch import save_file
from torch import Tensor

from explainer.explained import ExplainedImageModel, ExplainedModel, ImageClassification
from explainer.explained.loading import own_state_dict
from explainer.explained.pretrained import DTYPES, quiet
from explainer.explained.tasks import task_from
from explainer.explained.weights import load_tensors, shapes_of
from explainer.explainers import EXPLAINERS, AbstractMaskExplainer
from explainer.explainers.config import CONFIG, MERGED, ExportConfig, probe_scores

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
    if merge:
        # The weights of an adapter that the model was loaded with are part of these; the explainer's own are not.
        with quiet():
            explained.model.save_pretrained(folder / MERGED, state_dict=own_state_dict(explained.model))
        explained.tokenizer.save_pretrained(folder / MERGED)
    trained = explainer.trained(explained)
    weights = {
        name: parameter.detach().cpu().to(dtype or parameter.dtype).contiguous() for name, parameter in trained.items()
    }
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    exact = {name: parameter.detach().clone() for name, parameter in trained.items()}
    explainer.load_trained(explained, weights)  # the scores of the probe are those of the weights in the file
    try:
        scores = probe_scores(explained, explainer)
    finally:
        explainer.load_trained(explained, exact)
    ExportConfig.of(explained, explainer, folder, folder / WEIGHTS, scores, merged=merge).write(folder)


def load_folder(name: str, model: str | None = None, **options: Any) -> tuple[ExplainedModel, AbstractMaskExplainer]:
    """The explained model and the explainer of a folder or hub id.

    Args:
        model: hub id or folder of the explained model, in place of the one that the folder refers to.
        options: of `ExplainedModel.from_pretrained`.

    Raises:
        ValueError: when there is no exported explainer, its files are broken, or the explained model is another.
    """
    folder = _local(name)
    config, weights = _read(folder)
    reference = config.model_of(folder) if model is None else model
    known = {
        "baseline_token": config.baseline_token,
        "task": task_from(config.task),
        "dtype": DTYPES.get(config.dtype, torch.float32),
    }
    of_images = config.task.get("task") == ImageClassification.name
    kind = ExplainedImageModel if of_images else ExplainedModel
    explained = kind.from_pretrained(reference, **{**known, **options})
    return explained, _built(config, weights, explained)


def load_onto(name: str, explained: ExplainedModel) -> AbstractMaskExplainer | None:
    """The explainer of a folder or hub id, on a model that is loaded already; None where it would change that model.

    Raises:
        ValueError: when there is no exported explainer, its files are broken, or this is not the model it explains.
    """
    config, weights = _read(_local(name))
    return None if EXPLAINERS[config.explainer["kind"]].edits_explained else _built(config, weights, explained)


def load_exported(folder: Path, explained: ExplainedModel, explainer: AbstractMaskExplainer) -> None:
    """Copy an exported explainer's weights into one of the same kind and settings.

    Raises:
        ValueError: when the files are broken, or were exported for another explained model or another explainer.
    """
    config, weights = _read(folder)
    config.check(explained)
    _load(config, weights, explained, explainer)


def _read(folder: Path) -> tuple[ExportConfig, dict[str, Tensor]]:
    """The configuration and the weights in a folder, after both were found to be those that were exported."""
    config, path = ExportConfig.read(folder), folder / WEIGHTS
    config.check_files(folder, path, shapes_of(path))
    return config, load_tensors(path)


def _built(config: ExportConfig, weights: dict[str, Tensor], explained: ExplainedModel) -> AbstractMaskExplainer:
    """The explainer of a folder, on the model that it explains."""
    config.check(explained)
    explainer = config.build(explained)
    _load(config, weights, explained, explainer)
    return explainer


def _load(
    config: ExportConfig, weights: dict[str, Tensor], explained: ExplainedModel, explainer: AbstractMaskExplainer
) -> None:
    explainer.load_trained(explained, weights)
    explainer.to(explained.device)
    explainer.longest_text = config.longest_text
    config.check_scores(explained, explainer)


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
