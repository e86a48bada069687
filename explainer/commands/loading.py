"""The attributor that the options of a command name."""

from typing import Any

import torch

from explainer.attributor import Attributor
from explainer.attributor.base import AbstractAttributor
from explainer.commands.device import device
from explainer.explained import ExplainedModel, PromptedClassification, ZeroShotClassification
from explainer.explained.tasks import AbstractTask
from explainer.methods import METHODS
from explainer.methods.loading import is_exported


def load_attributor(
    method: str,
    model: str | None,
    batch_tokens: int,
    settings: dict[str, Any],
    task: AbstractTask | None = None,
    dtype: torch.dtype | None = None,
    kind: type[ExplainedModel] = ExplainedModel,
) -> AbstractAttributor:
    """An attributor from a method's name and a model, or from an exported folder or hub id; on the command's device.

    Args:
        kind: of the model that a named method explains.

    Returns:
        One of responses where the task is `Response`, or where the folder has an explainer of responses.

    Raises:
        ValueError: when there is no such method or model, or options do not go together.
    """
    precision: dict[str, Any] = {} if dtype is None else {"dtype": dtype}
    if method not in METHODS and is_exported(method):
        if settings:
            raise ValueError("`--method-args` are for named methods; an exported attributor has its own settings.")
        if isinstance(task, PromptedClassification | ZeroShotClassification):
            raise ValueError(
                "`--prompt` and `--labels` are for named methods; an exported attributor has those of its training."
            )
        attributor = Attributor.from_pretrained(method, model=model, batch_tokens=batch_tokens, **precision)
        if task is not None and not task.is_that_of(attributor.explained.task):
            raise ValueError(
                f"`--task {task.name}`: an exported attributor has the task of its training, which is "
                f"{attributor.explained.task.settings}."
            )
        return attributor.to(device())
    if model is None:
        raise ValueError(f"`--method {method}` needs `--model`, the model to explain.")
    explained = kind.from_pretrained(model, task=task, batch_tokens=batch_tokens, **precision)
    return Attributor.of(explained, method, **settings).to(device())


def of_texts(method: str, attributor: AbstractAttributor) -> Attributor:
    """The attributor of a method, if it is one of texts.

    Raises:
        ValueError: when it explains responses.
    """
    if not isinstance(attributor, Attributor):
        raise ValueError(f"`--method {method}` explains the responses of a language model: give `--task response`.")
    return attributor
