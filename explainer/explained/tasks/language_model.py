"""What the tasks of language models share: messages, and a head that reads some positions alone."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

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
