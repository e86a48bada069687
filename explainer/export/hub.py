"""The hub: uploading an attributor's folder, and the head of a model card as the hub reads it."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from huggingface_hub import EvalResult, HfApi, ModelCardData

from explainer.explained import ExplainedModel
from explainer.explained.weights import read_json
from explainer.explainers import AbstractMaskExplainer
from explainer.explainers.folder import save_folder
from explainer.storage.atomic import write_text


def push(
    explained: ExplainedModel,
    explainer: AbstractMaskExplainer,
    repo_id: str,
    *,
    merge: bool,
    dtype: torch.dtype | None,
    card: str | None,
    private: bool | None,
    token: str | bool | None,
    revision: str | None,
    commit_message: str,
) -> str:
    """Make the repository where it does not exist, and upload the folder and the card in one commit.

    Returns:
        The address of the commit.

    Raises:
        ValueError: when the folder would refer to a model that only this machine has.
    """
    if not merge and explained.name is not None and Path(explained.name).exists():
        raise ValueError(
            f"The explained model {explained.name!r} is a folder of this machine, where nobody else finds it: upload "
            "it too by `merge=True`, or load the attributor with `model` set to its hub id."
        )
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        save_folder(explained, explainer, folder, dtype, merge)
        write_text(folder / "README.md", short_card(repo_id, explained) if card is None else card)
        api = HfApi(token=token)
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id, folder_path=folder, revision=revision, commit_message=commit_message
        )
    return commit.commit_url


def short_card(repo_id: str, explained: ExplainedModel, license: str = "apache-2.0") -> str:
    """README.md of an attributor without the record of its training."""
    lines = usage(repo_id, explained.name, not explained.task.closed)
    return "\n".join([*card_head("token-attribution", explained.name, license), "", *lines, ""])


def usage(name: str, explained: str | None, responses: bool = False) -> list[str]:
    """The description of the attributor `name`, with the code that explains a text by it.

    Args:
        responses: whether it explains what a language model answers.
    """
    if responses:
        what = "one pass over prompt and response tells which parts of the prompt made the model say that."
        call = """answer = attributor([{"role": "user", "content": "..."}])\nanswer.sources("sentence").top(3)"""
    else:
        what = "one forward pass of it tells which tokens made the classifier decide as it did."
        call = """attributor(["a gorgeous , witty film"])[0].words()"""
    return [
        f"# {Path(name).name}",
        "",
        f"An amortized token explainer of {'a model in this folder' if explained is None else f'`{explained}`'},"
        " trained by Amortex:",
        what,
        "",
        "```python",
        "from explainer import Attributor",
        "",
        f'attributor = Attributor.from_pretrained("{name}")',
        call,
        "```",
    ]


def card_head(
    tag: str, model: str | None, license: str = "apache-2.0", name: str = "", results: Sequence[EvalResult] = ()
) -> list[str]:
    """The metadata that the hub reads: library, licence, tags, the hub model that `model` is or adapts, and results.

    Args:
        name: of what the card describes; needed with results.
        results: measurements in the hub's own form, its model index.
    """
    card = ModelCardData(
        library_name="amortex",
        license=license,
        tags=[tag],
        base_model=None if model is None else base_model(model),
        model_name=name if results else None,
        eval_results=list(results) or None,
    )
    return ["---", card.to_yaml(), "---"]


def base_model(name: str) -> str | None:
    """The hub id of a model, or of the base of an adapter; None for a folder that names none."""
    if not Path(name).exists():
        return name
    adapter = Path(name) / "adapter_config.json"
    base = read_json(adapter).get("base_model_name_or_path") if adapter.is_file() else None
    local = not isinstance(base, str) or Path(base).exists() or (Path(name) / base).exists()
    return None if local else base
