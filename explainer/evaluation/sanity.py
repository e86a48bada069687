"""Sanity of a method: whether its scores change when the model or the target does.

Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018. The explained model's weights are randomised in a
cascade, the head first, then layer after layer down to the embeddings; or another label is explained. The rank
correlation of the scores before and after is low where the method explains this model and this label. Scores that stay
the same explain nothing. Departure: the entries of each weight are shuffled where the paper draws new ones, so that
every weight keeps its distribution and activations their size, on any architecture.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from explainer.explained import Attributions, EncodedText, ExplainedModel, Target
from explainer.methods.base import AbstractMethod
from explainer.methods.trained.amortized import Amortized
from explainer.metrics import spearman

PerText = Float[Tensor, " n"]


@torch.inference_mode(False)  # the copy must be one that gradients can go through
def cascading_randomisation(
    method: AbstractMethod, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target, seed: int = 0
) -> dict[str, PerText]:
    """Spearman's correlation per text with the scores of the unchanged model, by the last stage randomised.

    The stages are `head`, `layer_<n-1>` ... `layer_0`, `embeddings`, each on top of those before it, on a copy of the
    model. NaN for texts of fewer than two scorable tokens, and where scores are constant. A trained explainer keeps its
    own weights. One that reads the text alone (`separate`, `encoder`) cannot notice a changed model: its correlations
    are 1.
    """
    if isinstance(method, Amortized):  # it reads a copy of its own, which would not be the changed one
        explained, method = method.explained or explained, replace(method, explained=None)
    before = method.attribute(explained, texts, target)
    changed = copy.deepcopy(explained)
    own = set(method.explainer.trained(changed).values()) if isinstance(method, Amortized) else set()
    generator = torch.Generator().manual_seed(seed)
    correlations: dict[str, PerText] = {}
    for stage, weights in stages(changed).items():
        parameters = [parameter for parameter in weights if parameter not in own]
        for parameter in parameters:
            _shuffle(parameter, generator)
        correlations[stage] = _correlations(before, method.attribute(changed, texts, target))
    return correlations


def target_change(
    method: AbstractMethod,
    explained: ExplainedModel,
    texts: Sequence[EncodedText],
    target: Target,
    other: Target | None = None,
) -> PerText:
    """Spearman's correlation per text between the scores of `target` and those of another choice.

    Args:
        other: by default the choice of the highest logit that is not `target`.

    Raises:
        ValueError: when the model has one output only.
    """
    if other is None:
        other = Target(explained.predict([text.tokens for text in texts]).runner_up(target.to("cpu")))
    return _correlations(*(method.attribute(explained, texts, choice) for choice in (target, other)))


def stages(explained: ExplainedModel) -> dict[str, list[nn.Parameter]]:
    """The model's weights from the top down: `head` is all above the last layer, `embeddings` all below the first."""
    layer_of = {p: i for i, layer in enumerate(explained.layers) for p in layer.parameters()}
    names = ["head", *(f"layer_{i}" for i in reversed(range(len(explained.layers)))), "embeddings"]
    weights: dict[str, list[nn.Parameter]] = {name: [] for name in names}
    # A model registers its parts in the order in which it runs them.
    below = True
    for parameter in explained.model.parameters():
        below = below and parameter not in layer_of
        stage = f"layer_{layer_of[parameter]}" if parameter in layer_of else "embeddings" if below else "head"
        weights[stage].append(parameter)
    return weights


@torch.no_grad()
def _shuffle(parameter: nn.Parameter, generator: torch.Generator) -> None:
    order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
    parameter.copy_(parameter.flatten()[order].view_as(parameter))


def _correlations(before: Attributions, after: Attributions) -> PerText:
    pairs = zip(before.texts, before.scores, after.scores, strict=True)
    return torch.stack([spearman(old[text.scorable], new[text.scorable]) for text, old, new in pairs])
