"""Sensitivity: the largest change of a method's scores under small noise on the word embeddings.

Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019, as captum computes it.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from explainer.explained import EncodedText, ExplainedModel, Target
from explainer.extras import OptionalModule
from explainer.methods.base import AbstractMethod

captum_metrics = OptionalModule("captum.metrics")


def sensitivity_max(
    method: AbstractMethod,
    explained: ExplainedModel,
    texts: Sequence[EncodedText],
    target: Target,
    *,
    perturb_radius: float = 0.02,
    n_perturb_samples: int = 10,
    seed: int = 0,
) -> Float[Tensor, " n"]:
    """The largest change of the scores per text, relative to their norm.

    Yeh et al. 2019, definition 3.1. The noise belongs to the word, not the position, so that methods that delete,
    move or replace tokens see the same noisy words; special tokens and the baseline token keep their embedding.
    Low is good.

    Args:
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
        scores = []
        for number in numbers[0].int().tolist():
            with noisy_words(explained, perturb_radius if number else 0.0, seed * 1_000_003 + number):
                ragged = method.attribute(explained, texts, target).scores
            scores.append(torch.stack([nn.functional.pad(row, (0, width - len(row))) for row in ragged]))
        return (torch.stack(scores, dim=1).flatten(0, 1),)

    def numbered(numbers: Tensor) -> Tensor:
        each = len(numbers) // len(texts)
        return torch.arange(1, each + 1).repeat(len(texts))[:, None].float()

    nothing = torch.zeros(len(texts), 1)
    return captum_metrics.sensitivity_max(explain, nothing, numbered, n_perturb_samples=n_perturb_samples)


@contextmanager
def noisy_words(explained: ExplainedModel, radius: float, seed: int) -> Iterator[None]:
    """Inside the block every word of the vocabulary has its own fixed uniform noise on its embedding.

    Args:
        radius: half the noise's width, as a share of the embeddings' root mean square.
    """
    half = radius * _root_mean_square(explained) if radius else 0.0
    unchanged = {*explained.tokenizer.all_special_ids, explained.baseline_token_id}
    noises: dict[int, Tensor] = {}

    def noise(token_id: int) -> Tensor:
        if token_id not in noises:
            digest = hashlib.sha256(f"{seed} {token_id}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
            uniform = 2 * torch.rand(explained.embedding.embedding_dim, generator=generator) - 1
            noises[token_id] = uniform * (0.0 if token_id in unchanged else half)
        return noises[token_id]

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        ids = inputs[0]
        noise_of_ids = torch.stack([noise(i) for i in ids.flatten().tolist()])
        return output + noise_of_ids.view(*ids.shape, -1).to(output)

    with ExitStack() as stack:
        for module in explained.embeddings if radius else ():
            stack.callback(module.register_forward_hook(hook).remove)
        yield


@torch.no_grad()
def _root_mean_square(explained: ExplainedModel) -> float:
    """Of the word embeddings as the model gets them, over up to 4,096 words evenly spread."""
    n = explained.embedding.num_embeddings
    ids = torch.linspace(0, n - 1, min(n, 4096), device=explained.device).long()
    return float(explained.embedding(ids).float().pow(2).mean().sqrt())
