"""The straight way to every number of this package: one text, one perturbation, one call of the bare model."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from explainer.explained import Attributions, EncodedText, ExplainedModel, Target
from tests.families import TEXTS


def attributions_of(
    model: ExplainedModel, texts: Sequence[str] = TEXTS, choices: list[int] | None = None
) -> Attributions:
    """Normally distributed scores of the texts, for targets 0, 1, 2, 0, 1 ... of the labels that there are."""
    encoded = model.encode(texts)
    targets = [i % min(3, len(model.labels)) for i in range(len(encoded))] if choices is None else choices
    return Attributions(encoded, Target.of(targets), [torch.randn(len(text)) for text in encoded])


def taken_out(text: EncodedText, scores: Tensor, which: str, percent: float) -> set[int]:
    """The positions that a perturbation takes out, by sorting in Python."""
    scorable = text.scorable.nonzero()[:, 0].tolist()
    falling = sorted(scorable, key=lambda j: (-scores[j].item(), j))
    rising = sorted(scorable, key=lambda j: (scores[j].item(), j))
    k = int(len(scorable) * percent / 100 + 1e-9)
    if k == 0:
        return set()
    return {"top": set(falling[:k]), "rest": set(falling[k:]), "bottom": set(rising[:k])}[which]


@torch.no_grad()
def logits_without(model: ExplainedModel, text: EncodedText, taken: set[int], operator: str) -> Tensor:
    """The bare model's logits (labels,) of the text without these positions."""
    tokens, gone = text.tokens, torch.tensor([i in taken for i in range(len(text))])
    ids, types = tokens.input_ids, tokens.token_type_ids
    inputs: dict[str, Any] = {}
    if operator == "delete":
        ids, types = ids[~gone], None if types is None else types[~gone]
        ids = ids if len(ids) else torch.tensor([model.baseline_token_id])  # of a tokenizer without special tokens
    if operator == "replace":
        ids = torch.where(gone, model.baseline_token_id, ids)
    if operator == "hide":
        inputs = {"attention_mask": (~gone).long()[None], "position_ids": torch.arange(len(ids))[None]}
    if types is not None and types.any():
        inputs["token_type_ids"] = types[None]
    with _blanked(model, gone if operator == "blank" else torch.zeros_like(gone)):
        return model.model(input_ids=ids[None], **inputs).logits[0]


@contextmanager
def _blanked(model: ExplainedModel, gone: Tensor) -> Iterator[None]:
    """Zero the embeddings of these tokens; the decoder of an encoder-decoder reads them one position further right."""
    if not gone.any():
        yield
        return
    masks = iter([gone, torch.cat([gone[:1] & False, gone[:-1]])])

    def hook(module: Any, inputs: Any, output: Tensor) -> Tensor:
        return torch.where(next(masks)[None, :, None], 0.0, output)

    with ExitStack() as stack:
        for module in model.embeddings:
            stack.callback(module.register_forward_hook(hook).remove)
        yield


def probability(model: ExplainedModel, logits: Tensor, choice: int) -> float:
    """Of the choice, as the model's own configuration says: one label of several, or every label by itself."""
    if model.model.config.problem_type == "multi_label_classification":
        return (1 / (1 + (-logits[choice]).exp())).item()
    return (logits[choice].exp() / logits.exp().sum()).item()
