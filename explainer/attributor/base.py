"""What attributors of texts and of responses share: a model, a method, where they run, and how they are loaded."""

import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch

from explainer.attributor.compilation import CompiledBlocks
from explainer.attributor.saving import SavingMixin
from explainer.explained import AbstractTask, ExplainedModel
from explainer.explained.pretrained import DeviceMap
from explainer.explainers import AbstractMaskExplainer
from explainer.methods.base import AbstractMethod
from explainer.methods.loading import load_method
from explainer.methods.trained.amortized import Amortized

Own = TypeVar("Own", bound="AbstractAttributor")


class AbstractAttributor(SavingMixin):
    """An explained model and the method that explains it."""

    def __init__(self, explained: ExplainedModel, method: AbstractMethod) -> None:
        self.explained = explained
        self.method = method
        self._compiled: CompiledBlocks | None = None

    def to(self: Own, device: torch.device | str) -> Own:
        """Move the model and the explainer."""
        self.explained.to(device)
        if isinstance(self.method, Amortized):
            self.method.to(device)
        return self

    def compile(self: Own, **options: Any) -> Own:
        """Run prediction and explainer through torch.compile from now on; the first calls take long.

        Args:
            options: of `torch.compile` (`backend`, `mode`); shapes are dynamic unless `dynamic=False`.

        Raises:
            ValueError: when the method is no trained explainer. The other methods edit the model in ways that a
                compiled graph ignores.
        """
        self._compiled = CompiledBlocks(self.explained, self._explainer("compile"), **options)
        return self

    def _running(self) -> AbstractContextManager[None]:
        """The compiled blocks in place, where there are any."""
        return nullcontext() if self._compiled is None else self._compiled.running()

    def _warn_of_length(self, tokens: int) -> None:
        explainer = self.method.explainer if isinstance(self.method, Amortized) else None
        if explainer is not None and explainer.reach is not None and tokens > explainer.reach:
            warnings.warn(
                f"Texts of more than {explainer.reach} tokens were given, and the longest that this explainer was "
                f"trained on has {explainer.longest_text}: their scores may be wrong. `trust=True` measures that; "
                "train on longer texts, or a side explainer.",
                stacklevel=2,
            )

    def _explainer(self, verb: str) -> AbstractMaskExplainer:
        if not isinstance(self.method, Amortized):
            raise ValueError(f"Method {self.method.name!r} is no trained explainer: there is nothing to {verb}.")
        return self.method.explainer


def loaded(
    model: str | Path | ExplainedModel,
    method: str | AbstractMethod,
    settings: dict[str, Any],
    *,
    task: AbstractTask | None,
    dtype: torch.dtype | None,
    batch_tokens: int | None,
    device_map: DeviceMap,
) -> tuple[ExplainedModel, AbstractMethod]:
    """The model and the method of an attributor.

    Raises:
        ValueError: when there is no such model or method, the method has no such setting, or options of loading come
            with a model that is loaded already.
    """
    options = {"task": task, "dtype": dtype, "batch_tokens": batch_tokens, "device_map": device_map}
    given = {name: value for name, value in options.items() if value is not None}
    if isinstance(model, ExplainedModel):
        if given:
            raise ValueError(f"`model` is loaded already: leave {', '.join(f'`{name}`' for name in given)} out.")
        explained = model
    else:
        explained = ExplainedModel.from_pretrained(model, **given)  # type: ignore[arg-type]
    found = load_method(method, explained, **settings)
    if isinstance(found, Amortized) and found.explained is not None:
        # An exported explainer comes with a copy of the model, which may hold its adapters: one copy is enough.
        return found.explained, Amortized(found.explainer)
    return explained, found
