"""Helpers that several test files share."""

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from transformers import DebertaV2Config, DebertaV2ForSequenceClassification

from explainer.explained import EncodedText, ExplainedModel, QuestionAnswering, Target, TokenBatch, Tokens
from explainer.explained.passes import EmbeddingEdit
from explainer.explainers import EXPLAINERS, AbstractMaskExplainer
from explainer.explainers.config import settings_digest
from explainer.explainers.response import AbstractResponseExplainer
from explainer.methods import Random
from explainer.methods.rpi.baselines import AttentionState, record_attention
from tests.families import EXPERTS, TEXTS, explained, tokenizer

# What building a LoRA explainer warns of; it has a test of its own in models/test_lora.py.
LORA_WARNINGS = [
    pytest.mark.filterwarnings("ignore:You have passed exclude_modules:UserWarning"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning"),
    pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys did not match:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


LABEL_EXPLAINERS = [kind for kind, one in EXPLAINERS.items() if not issubclass(one, AbstractResponseExplainer)]
"""The kinds that explain the labels of a closed list; the others explain responses."""


def fresh(family: str, **settings: Any) -> ExplainedModel:
    """A model of its own, for tests that change it.

    Args:
        settings: of `families.explained`.
    """
    model = copy.deepcopy(explained(family, **settings))
    model.__dict__.pop("fingerprint", None)  # cached, and copied along
    return model


@cache
def double(family: str, **settings: Any) -> ExplainedModel:
    """The same weights in float64."""
    model = fresh(family, **settings).double()
    if family in EXPERTS:
        model.model.set_experts_implementation("eager")
    return model


@cache
def deberta() -> ExplainedModel:
    """A tiny classifier whose attention is not on transformers' attention interface."""
    words = tokenizer("deberta_v2")
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    config = DebertaV2Config(
        vocab_size=len(words), num_labels=3, max_position_embeddings=40, pad_token_id=words.pad_token_id, **sizes
    )
    return ExplainedModel(DebertaV2ForSequenceClassification(config), words, name="tiny-deberta")


def encoded(model: ExplainedModel, texts: Sequence[str] = TEXTS) -> list[EncodedText]:
    """The texts, with the predicted entity or answer marked where the task has one."""
    asks = isinstance(model.task, QuestionAnswering)
    contexts = [" ".join(["so", *reversed(text.split()[:8])]) for text in texts] if asks else None
    plain = model.encode(texts, contexts)
    return model.asked(plain)[0] if model.task.anchored else plain


def batch_of(model: ExplainedModel, texts: Sequence[str] = TEXTS, side: str = "right") -> TokenBatch:
    return model.collate(encoded(model, texts), side=side)


def logits_of(model: ExplainedModel, batch: TokenBatch, edit: EmbeddingEdit | None = None) -> Tensor:
    """The logits (batch, labels) of a task with one question."""
    return model(batch, edit).logits[:, 0]


def predictions(model: ExplainedModel, sequences: Sequence[Tokens]) -> Tensor:
    """The logits (n, labels) of token sequences, of a task with one question."""
    return model.predict(sequences).logits[:, 0]


def predicted(model: ExplainedModel, batch: TokenBatch) -> Target:
    return model(batch).predicted()


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest expected magnitude."""
    return float(((found - expected).abs().max() / expected.abs().max()).detach())


@contextmanager
def bit_equal_logits(model: ExplainedModel) -> Iterator[None]:
    """The model's logits after the block are those before it, to the bit, and no hook is left."""
    batch = batch_of(model)
    before, hooks = model(batch).logits, hook_count(model)
    yield
    assert torch.equal(model(batch).logits, before)
    assert hook_count(model) == hooks


def hook_count(model: ExplainedModel) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def state_of(model: ExplainedModel, batch: TokenBatch, layers: tuple[int, ...] = (0, 1)) -> AttentionState:
    """What RPI hands to a sampler."""
    with record_attention(model, batch, layers) as (state, *_):
        return state


@cache
def _encoder() -> TemporaryDirectory[str]:
    folder = TemporaryDirectory()  # cached, so that it is there until the tests end
    saved(explained("bert"), Path(folder.name))
    return folder


def explainer_of(model: ExplainedModel, kind: str, **settings: Any) -> AbstractMaskExplainer:
    """An explainer of that kind; a kind that needs a pretrained encoder gets a tiny one."""
    return EXPLAINERS[kind](model, **({"encoder": _encoder().name} if kind == "encoder" else {}), **settings)


def moved(model: ExplainedModel, kind: str = "separate", **settings: Any) -> AbstractMaskExplainer:
    """An explainer of that kind, every trained weight of it moved off its start."""
    torch.manual_seed(1)
    explainer = explainer_of(model, kind, **settings).eval()
    with torch.no_grad():
        for parameter in explainer.trained(model).values():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return explainer


def saved(model: ExplainedModel, folder: Path) -> str:
    """The folder, with the model and its tokenizer in it."""
    model.model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return str(folder)


def change_config(folder: Path, **values: Any) -> None:
    """Change entries of an export's config.json, its digest included: what somebody else may have written."""
    config = json.loads((folder / "config.json").read_text()) | values
    config |= {} if "settings_sha256" in values else {"settings_sha256": settings_digest(config)}
    (folder / "config.json").write_text(json.dumps(config))


@dataclass(frozen=True)
class Bound(Random):
    """Random scores that call themselves a bound."""

    name: ClassVar[str] = "greedy"
    is_bound: ClassVar[bool] = True
