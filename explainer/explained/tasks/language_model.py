"""What the tasks of language models share: messages, and a head that reads some positions alone."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel

from explainer.explained.batch import TokenBatch

MARKS = ("\ue000", "\ue001")
"""Private characters, which no template knows."""


def checked_messages(messages: Any) -> list[dict[str, str]]:
    """The messages, each with a role and a content.

    Raises:
        ValueError: when they are no such list.
    """
    if not isinstance(messages, list) or not messages:
        raise ValueError(f"`messages` must be a list of mappings with role and content, got {messages!r:.80}.")
    for message in messages:
        texts = isinstance(message, Mapping) and all(isinstance(value, str) for value in message.values())
        if not texts or set(message) != {"role", "content"}:
            raise ValueError(f"Each of `messages` must have `role` and `content`, two strings, got {message!r:.120}.")
    return [dict(message) for message in messages]


def start_token(model: PreTrainedModel) -> int | None:
    """The first token of the decoder of an encoder-decoder; None for a causal model.

    Raises:
        ValueError: when an encoder-decoder's configuration does not name it.
    """
    if not model.config.is_encoder_decoder:
        return None
    start = model.generation_config.decoder_start_token_id if model.generation_config else None
    start = model.config.decoder_start_token_id if start is None else start
    if start is None:
        raise ValueError(f"`model` {type(model).__name__} has no `decoder_start_token_id` in its configuration.")
    return int(start)


def auto_model_of(config: Mapping[str, Any]) -> Any:
    """The class that loads a language model, or a PEFT adapter of one, with this configuration."""
    seq2seq = config.get("is_encoder_decoder") or config.get("task_type") == "SEQ_2_SEQ_LM"
    return AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM


def last_position(batch: TokenBatch) -> Int64[Tensor, "batch 1"]:
    """The last real position of each right-padded text."""
    return batch.attention_mask.sum(dim=1, keepdim=True) - 1


def gathered(states: Float[Tensor, "batch seq width"], places: Tensor) -> Float[Tensor, "batch questions width"]:
    """The states, or logits, at the places (batch, questions)."""
    places = places.to(states.device)
    return states[torch.arange(len(places), device=places.device)[:, None], places]


@contextmanager
def head_at(model: nn.Module, places: Tensor) -> Iterator[None]:
    """Give the head the states of the places alone: no (batch, seq, vocabulary) array is made."""

    def at_places(head: nn.Module, inputs: tuple[Any, ...]) -> Any:
        states, *more = inputs
        return (gathered(states, places), *more)

    hook = model.get_output_embeddings().register_forward_pre_hook(at_places)  # type: ignore[operator]
    try:
        yield
    finally:
        hook.remove()
