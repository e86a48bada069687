"""Infidelity: the error of scores as predictions of what happens when tokens are replaced.

Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019, as captum computes it.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from explainer.explained import Attributions, ExplainedModel
from explainer.extras import OptionalModule
from explainer.methods.captum.forward import TextForward
from explainer.methods.random import generator_of

captum_metrics = OptionalModule("captum.metrics")

Presence = Float[Tensor, "samples units"]


def infidelity(
    explained: ExplainedModel,
    attributions: Attributions,
    *,
    n_perturb_samples: int = 50,
    normalize: bool = True,
    seed: int = 0,
) -> Float[Tensor, " n"]:
    """Mean over random sets of tokens of (sum of their scores - fall of the objective when they are replaced)^2.

    Yeh et al. 2019, definition 2.1, with I the indicator of a set of scorable tokens (of units, where a text has them),
    of a size drawn evenly from 1 to n, and x - I the text with those replaced by the baseline token. In squared logits;
    low is good. The sets depend on the seed and the text's own tokens alone, so that a text has the same value in any
    company.

    Args:
        n_perturb_samples: sets per text.
        normalize: whether the scores are first scaled, per text, to fit the falls as well as they can.
        seed: of the sets.
    """
    values = torch.zeros(len(attributions))
    for i, (text, scores) in enumerate(zip(attributions.texts, attributions.scores, strict=True)):
        if text.n_scorable:
            forward, generator = (
                TextForward(explained, text, attributions.target[i : i + 1]),
                generator_of(text.tokens, seed),
            )
            values[i] = captum_metrics.infidelity(
                forward,
                lambda presence, generator=generator: _absences(presence, generator),
                forward.whole,
                torch.stack([scores[unit].sum() for unit in forward.units])[None],
                n_perturb_samples=n_perturb_samples,
                normalize=normalize,
            )[0]
    return values


def _absences(presence: Presence, generator: torch.Generator) -> tuple[Presence, Presence]:
    """Random sets of units as I, and the presence without them."""
    samples, n = presence.shape
    sizes = torch.randint(1, n + 1, (samples, 1), generator=generator)
    absent = (torch.rand(samples, n, generator=generator).argsort(dim=1) < sizes).to(presence.dtype)
    return absent, presence - absent
