"""Sanity of a method: does its map move when what it explains changes?

Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018. The explained model's weights are randomised in a
cascade, the head first, then layer after layer down to the embeddings, or another class is explained; the rank
correlation of the maps before and after is low where the method explains this model and this class. A map that does
not move is not an explanation. Departure: the entries of each weight are shuffled where the paper draws them anew, so
that every weight keeps its distribution and activations their size, on any architecture.
"""

import copy
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from explainer.explained import EncodedText, ExplainedModel
from explainer.methods.base import AbstractMethod
from explainer.methods.run import scores_of
from explainer.metrics import spearman
from explainer.typing import RaggedScores, Target

PerText = Float[Tensor, " n"]


@torch.inference_mode(False)  # the copy must be one that gradients can go through
def cascading_randomisation(
    method: AbstractMethod, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target, seed: int = 0
) -> dict[str, PerText]:
    """Spearman's correlation, one a text, with the maps of the model as it is, by the last stage randomised.

    The stages are `head`, `layer_<n-1>` ... `layer_0`, `embeddings`, each on top of those before it, on a copy of the
    model. NaN for texts of fewer than two scorable tokens, and where a map is constant.
    """
    before = scores_of(method, explained, texts, target)
    changed = copy.deepcopy(explained)
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, PerText] = {}
    for stage, parameters in stages(changed).items():
        for parameter in parameters:
            _shuffle(parameter, generator)
        found[stage] = _correlations(texts, before, scores_of(method, changed, texts, target))
    return found


def target_change(
    method: AbstractMethod,
    explained: ExplainedModel,
    texts: Sequence[EncodedText],
    target: Target,
    other: Target | None = None,
) -> PerText:
    """Spearman's correlation, one a text, between the maps of `target` and of another class.

    Args:
        other: that class, one a text; by default the one of the highest logit that is not `target`.
    """
    if other is None:
        logits = explained.predict([text.tokens for text in texts])
        other = logits.scatter(1, target.cpu()[:, None], -torch.inf).argmax(dim=1)
    return _correlations(texts, *(scores_of(method, explained, texts, c) for c in (target, other)))


def stages(explained: ExplainedModel) -> dict[str, list[nn.Parameter]]:
    """The model's weights from the top down: `head` is all above the last layer, `embeddings` all below the first."""
    layer_of = {p: i for i, layer in enumerate(explained.layers) for p in layer.parameters()}
    found: dict[str, list[nn.Parameter]] = {name: [] for name in _names(len(explained.layers))}
    # A model registers its parts in the order in which it runs them.
    below = True
    for parameter in explained.model.parameters():
        below = below and parameter not in layer_of
        place = f"layer_{layer_of[parameter]}" if parameter in layer_of else "embeddings" if below else "head"
        found[place].append(parameter)
    return found


def _names(layers: int) -> Iterator[str]:
    yield "head"
    yield from (f"layer_{i}" for i in reversed(range(layers)))
    yield "embeddings"


@torch.no_grad()
def _shuffle(parameter: nn.Parameter, generator: torch.Generator) -> None:
    order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
    parameter.copy_(parameter.flatten()[order].view_as(parameter))


def _correlations(texts: Sequence[EncodedText], before: RaggedScores, after: RaggedScores) -> PerText:
    pairs = zip(texts, before, after, strict=True)
    return torch.stack([spearman(old[text.scorable], new[text.scorable]) for text, old, new in pairs])
