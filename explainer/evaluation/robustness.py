"""What captum measures of attributions beside faithfulness: infidelity and sensitivity; and the completeness gap.

Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019. One value a text; all seeds are the
text's own, so that a text has the same value in any company.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from captum import metrics as captum_metrics
from jaxtyping import Float
from torch import Tensor, nn

from explainer.explained import EncodedText, ExplainedModel
from explainer.methods.base import AbstractMethod, logit_of
from explainer.methods.captum.forward import TextForward
from explainer.methods.random import generator_of
from explainer.methods.run import scores_of
from explainer.metrics.completeness import completeness_gap as gap_between
from explainer.typing import RaggedScores, Target

PerText = Float[Tensor, " n"]


def completeness_gap(
    method: AbstractMethod,
    explained: ExplainedModel,
    texts: Sequence[EncodedText],
    scores: RaggedScores,
    target: Target,
) -> PerText:
    """|sum of the scores - (f_c(x) - f_c(every scorable token replaced by the baseline token))|, in logits.

    Args:
        method: what gave the scores.
        scores: one tensor (tokens,) a text.
        target: the class explained, one a text.

    Raises:
        ValueError: when the method promises no sum.
    """
    if not method.complete:
        raise ValueError(
            f"`method` {method.name!r} does not promise that its scores sum to anything, so it has no completeness gap."
        )
    empty = [text.tokens.replaced(text.scorable, explained.baseline_token_id) for text in texts]
    logits = logit_of(explained.predict([*(text.tokens for text in texts), *empty]), target.cpu().repeat(2))
    total = torch.stack([score.cpu().sum() for score in scores]).to(logits.dtype)
    return gap_between(total, logits[: len(texts)] - logits[len(texts) :])


def infidelity(
    explained: ExplainedModel,
    texts: Sequence[EncodedText],
    scores: RaggedScores,
    target: Target,
    *,
    n_perturb_samples: int = 50,
    normalize: bool = True,
    seed: int = 0,
) -> PerText:
    """Mean over random sets of tokens of (sum of their scores - fall of the logit when they are replaced)^2.

    Yeh et al. 2019, definition 2.1, with I the indicator of a set of scorable tokens, of a size drawn evenly from 1
    to n, and x - I the text with those replaced by the baseline token. In squared logits; low is good.

    Args:
        scores: one tensor (tokens,) a text.
        target: the class explained, one a text.
        n_perturb_samples: sets a text.
        normalize: whether the scores are first scaled, per text, to fit the falls as well as they can.
        seed: of the sets.
    """
    values = torch.zeros(len(texts))
    for i, (text, score) in enumerate(zip(texts, scores, strict=True)):
        if text.n_scorable:
            generator = generator_of(text.tokens, seed)
            values[i] = captum_metrics.infidelity(
                TextForward(explained, text.tokens, text.scorable).present,
                lambda presence, generator=generator: _absences(presence, generator),
                torch.ones(1, text.n_scorable),
                score.cpu()[text.scorable][None],
                target=int(target[i]),
                n_perturb_samples=n_perturb_samples,
                normalize=normalize,
            )[0]
    return values


def _absences(presence: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random sets of tokens as I (rows, n), and the presence without them."""
    rows, n = presence.shape
    sizes = torch.randint(1, n + 1, (rows, 1), generator=generator)
    absent = (torch.rand(rows, n, generator=generator).argsort(dim=1) < sizes).to(presence.dtype)
    return absent, presence - absent


def sensitivity_max(
    method: AbstractMethod,
    explained: ExplainedModel,
    texts: Sequence[EncodedText],
    target: Target,
    *,
    perturb_radius: float = 0.02,
    n_perturb_samples: int = 10,
    seed: int = 0,
) -> PerText:
    """The largest change of a text's scores, relative to their norm, under small noise on the word embeddings.

    Yeh et al. 2019, definition 3.1. The noise belongs to the word, not the position, so that methods that delete,
    move or replace tokens see the same noisy words; special tokens and the baseline token keep their embedding.
    Low is good.

    Args:
        target: the class explained, one a text.
        perturb_radius: half the width of the uniform noise, as a share of the embeddings' root mean square.
        n_perturb_samples: noises; each costs the method once.
        seed: of the noises.
    """
    if not len(texts):
        return torch.zeros(0)
    width = max(len(text) for text in texts)

    # captum's input is the number of the noise, 0 being none: it repeats, compares and takes the maximum.
    def explain(numbers: Any) -> tuple[Tensor]:
        numbers = (numbers[0] if isinstance(numbers, tuple) else numbers).view(len(texts), -1)
        maps = []
        for number in numbers[0].int().tolist():
            with noisy_words(explained, perturb_radius if number else 0.0, seed * 1_000_003 + number):
                maps.append(_padded(scores_of(method, explained, texts, target), width))
        return (torch.stack(maps, dim=1).flatten(0, 1),)

    def numbered(numbers: Tensor) -> Tensor:
        each = len(numbers) // len(texts)
        return torch.arange(1, each + 1).repeat(len(texts))[:, None].float()

    nothing = torch.zeros(len(texts), 1)
    return captum_metrics.sensitivity_max(explain, nothing, numbered, n_perturb_samples=n_perturb_samples)


def _padded(scores: RaggedScores, width: int) -> Tensor:
    return torch.stack([nn.functional.pad(score, (0, width - len(score))) for score in scores])


@contextmanager
def noisy_words(explained: ExplainedModel, radius: float, seed: int) -> Iterator[None]:
    """Inside the block every word of the vocabulary has its own fixed uniform noise on its embedding.

    Args:
        radius: half the noise's width, as a share of the embeddings' root mean square.
    """
    half = radius * _root_mean_square(explained) if radius else 0.0
    kept = {*explained.tokenizer.all_special_ids, explained.baseline_token_id}
    noises: dict[int, Tensor] = {}

    def noise(token_id: int) -> Tensor:
        if token_id not in noises:
            digest = hashlib.sha256(f"{seed} {token_id}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
            uniform = 2 * torch.rand(explained.embedding.embedding_dim, generator=generator) - 1
            noises[token_id] = uniform * (0.0 if token_id in kept else half)
        return noises[token_id]

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        ids = inputs[0]
        rows = torch.stack([noise(i) for i in ids.flatten().tolist()])
        return output + rows.view(*ids.shape, -1).to(output)

    with ExitStack() as stack:
        for module in _embeddings(explained) if radius else ():
            stack.callback(module.register_forward_hook(hook).remove)
        yield


@torch.no_grad()
def _root_mean_square(explained: ExplainedModel) -> float:
    """Of the word embeddings as the model gets them, over up to 4,096 words evenly spread."""
    n = explained.embedding.num_embeddings
    ids = torch.linspace(0, n - 1, min(n, 4096), device=explained.device).long()
    return float(explained.embedding(ids).float().pow(2).mean().sqrt())


def _embeddings(explained: ExplainedModel) -> list[nn.Module]:
    """The modules that embed the text: an encoder-decoder may have two, of one table."""
    if not explained.model.config.is_encoder_decoder:
        return [explained.embedding]
    decoder = explained.model.base_model.get_decoder().get_input_embeddings()
    return [explained.embedding] if decoder is explained.embedding else [explained.embedding, decoder]
