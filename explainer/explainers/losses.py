"""Training losses of a mask explainer: one number from scores, masks or the model's answer, averaged over the texts."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from explainer.explained import Readout, Target
from explainer.explained.readout import NO_QUESTION
from explainer.typing import Scores

Loss = Float[Tensor, ""]
SoftTarget = Float[Tensor, "batch questions choices"]


def prediction_kept(readout: Readout, wanted: SoftTarget, target: Target) -> Loss:
    """How far the answer to the kept tokens alone is from the wanted one (AML, equation 3).

    Cross-entropy CE(f(keep(a)), p), the mean over a text's questions; for labels that are each decided by themselves
    the mean of their binary cross-entropies, for values the mean squared error.

    Args:
        readout: f(keep(a)).
        wanted: p, as `soft_target` gives it: probabilities, or the values of a regression.
        target: what is explained; questions that a text does not have count nothing.
    """
    if readout.link == "softmax":
        # Where nothing is wanted nothing is lost, also of a choice that the text does not have (its logit is -inf).
        log_probabilities = readout.logits.log_softmax(dim=-1).masked_fill(wanted == 0, 0.0)
        return _mean_over_questions(-(wanted * log_probabilities).sum(dim=-1), target)
    distance = F.binary_cross_entropy_with_logits if readout.link == "sigmoid" else F.mse_loss
    return distance(readout.logits, wanted)


def soft_target(readout: Readout, target: Target) -> SoftTarget:
    """The answer that the kept tokens should give.

    That is the whole text's own. Where the target was not predicted, it is the target instead: alone with probability
    1, or, where every label is decided by itself, that label with probability 1 and the others as they were. A
    regression predicts every one of its values.

    Args:
        readout: the answer to the whole text.
    """
    probabilities, choices = readout.probabilities, _places(target)
    if probabilities is None:
        return readout.logits
    predicted = probabilities.argmax(dim=-1, keepdim=True) == choices
    if readout.link == "sigmoid":
        predicted = predicted | (probabilities.gather(-1, choices) > 0.5)
        return torch.where(predicted, probabilities, probabilities.scatter(-1, choices, 1.0))
    return torch.where(predicted, probabilities, F.one_hot(choices[..., 0], probabilities.shape[-1]).to(probabilities))


def prediction_destroyed(readout: Readout, target: Target, eps: float = 1e-6) -> Loss:
    """-log(1 - p_c(keep(1 - a)) + eps): without the kept tokens the target should be gone (AML, equation 4).

    Of several questions, such as the tokens of a response, it is the mean.

    Args:
        readout: f(keep(1 - a)).

    Raises:
        ValueError: when the task has no probabilities.
    """
    probabilities = readout.probabilities
    if probabilities is None:
        raise ValueError(
            "`destroyed` needs the target's probability, and this model predicts values (a regression): set its weight "
            "to 0."
        )
    probability = probabilities.gather(-1, _places(target))[..., 0]
    return _mean_over_questions(-(1 - probability + eps).log(), target)


def sparsity(scores: Scores, scorable: Bool[Tensor, "batch seq"]) -> Loss:
    """Mean over each text's tokens of -log(1 - a_i), a = sigmoid(scores): keep little (AML, equation 5)."""
    # -log(1 - sigmoid(s)) = softplus(s), which does not overflow.
    return _means(F.softplus(scores), scorable).mean()


def correlation_matching(scores: Scores, teacher: Scores, scorable: Bool[Tensor, "batch seq"]) -> Loss:
    """1 - Pearson correlation with the teacher's scores, text by text; a text of one token counts 0."""
    return (
        (1 - F.cosine_similarity(_centred(scores, scorable), _centred(teacher, scorable), dim=1))
        .mul((scorable.sum(dim=1) > 1).float())
        .mean()
    )


def additivity(
    scores: Scores, design: Float[Tensor, "batch subsets seq"], effects: Float[Tensor, "batch subsets"]
) -> Loss:
    """1 - correlation between the sum of the scores of each subset of tokens and the subset's measured effect.

    Faithfulness correlation (Bhatt et al., IJCAI 2020) as a loss: it needs the explained model and no teacher.

    Args:
        design: centred, as `methods.subset_regression.SubsetEffects` has it.
        effects: centred likewise.
    """
    return (1 - F.cosine_similarity(torch.einsum("bms,bs->bm", design, scores), effects, dim=1)).mean()


def standardized(scores: Scores, scorable: Bool[Tensor, "batch seq"]) -> Scores:
    """Each text's scores with mean 0 and standard deviation 1 over its tokens, so that teachers can be mixed."""
    centred = _centred(scores, scorable)
    # The root of 0 has no finite gradient.
    tiny = torch.finfo(scores.dtype).tiny
    deviation = (centred.pow(2).sum(dim=1, keepdim=True) / _count(scorable)).clamp(min=tiny).sqrt()
    # Below rounding error of the scores' own size there is no difference to stretch: constant scores become 0.
    floor = torch.finfo(scores.dtype).eps * (scores * scorable).detach().abs().amax(dim=1, keepdim=True)
    return torch.where(deviation > 4 * floor, centred / deviation, 0.0)


def _places(target: Target) -> Int64[Tensor, "batch questions 1"]:
    """The choices as indices; 0 where a text has no such question."""
    return target.choices.where(target.choices != NO_QUESTION, torch.zeros_like(target.choices))[..., None]


def _mean_over_questions(values: Float[Tensor, "batch questions"], target: Target) -> Loss:
    """The mean over the questions that a text has, and over the texts."""
    return _means(values, target.choices != NO_QUESTION).mean()


def _centred(scores: Tensor, scorable: Tensor) -> Tensor:
    return (scores - _means(scores, scorable)) * scorable


def _means(values: Tensor, scorable: Tensor) -> Tensor:
    """The mean over the tokens of each text (batch, 1); 0 where it has none."""
    return (values * scorable).sum(dim=1, keepdim=True) / _count(scorable)


def _count(scorable: Tensor) -> Tensor:
    """The number of tokens of each text (batch, 1), at least 1."""
    return scorable.sum(dim=1, keepdim=True).clamp(min=1)
