"""A response: a causal language model's own answer, or any other, under teacher forcing.

The model reads the prompt and the response. What is explained is the sum, over the target's tokens, of the logit that
the model gives each of them at the token before it (or of its log-probability). The tokens of the target are marked by
`Tokens.anchors`; without marks the model is asked for the next token. `ExplainedResponse` makes such texts.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from explainer.explained.batch import EncodedText, TokenBatch
from explainer.explained.readout import Readout, precise
from explainer.explained.tasks.base import AbstractTask
from explainer.explained.tasks.language_model import gathered, head_at, last_position
from explainer.explained.text import TextEncoder


@dataclass(frozen=True)
class Response(AbstractTask):
    """A causal language model that is asked for the tokens of a response; every token of the vocabulary is a choice.

    Args:
        names: the tokens of the vocabulary, once the task is bound to a model.
    """

    name: ClassVar[str] = "response"
    auto_model: ClassVar[Any] = AutoModelForCausalLM
    closed: ClassVar[bool] = False
    frames_text: ClassVar[bool] = True
    reads_before: ClassVar[bool] = True
    names: tuple[str, ...] = ()

    @property
    def labels(self) -> list[str]:
        return list(self.names)

    @property
    def settings(self) -> dict[str, Any]:
        return {"task": self.name}

    def bound(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> "Response":
        head = model.get_output_embeddings()
        if head is None:
            raise ValueError(
                f"`model` {type(model).__name__} has no language model head, and the tokens of a response are its "
                "answers."
            )
        if model.config.is_encoder_decoder:
            raise ValueError(
                f"`model` {type(model).__name__} is an encoder-decoder, and responses are explained of causal language "
                "models: take one, or ask this one by `PromptedClassification`."
            )
        n = int(model.config.get_text_config().vocab_size)
        pieces = tokenizer.convert_ids_to_tokens(list(range(min(n, len(tokenizer)))))
        # A table that is padded to a round size has rows without a token.
        return replace(self, names=tuple(pieces[i] if i < len(pieces) and pieces[i] else f"<{i}>" for i in range(n)))

    def encode(
        self, encoder: TextEncoder, texts: Sequence[str], text_pairs: Sequence[str | None] | None = None
    ) -> list[EncodedText]:
        """Texts as prompts, after which the next token is asked for."""
        return encoder.encode_framed((0,), texts, text_pairs, ends_with_frame=True)

    @contextmanager
    def reading(self, model: nn.Module, batch: TokenBatch) -> Iterator[None]:
        """Give the head the states of the positions that are read, and no others."""
        with head_at(model, read_places(batch)):
            yield

    def read(self, output: Any, batch: TokenBatch) -> Readout:
        logits, places = output.logits, read_places(batch)
        if logits.shape[1] != places.shape[1]:  # of a pass outside of `reading`
            logits = gathered(logits, places)
        return Readout(precise(logits), self.link)

    def read_share(self, batch: TokenBatch) -> Float[Tensor, "batch seq"]:
        """Equal shares of the positions before the target's tokens."""
        seq = batch.input_ids.shape[1]
        if batch.anchors is None:
            return F.one_hot(read_places(batch)[:, 0], seq).float()
        before = F.pad(batch.anchors[:, 1:], (0, 1)) > 0
        return before.float() / before.sum(dim=1, keepdim=True)


def read_places(batch: TokenBatch) -> Int64[Tensor, "batch questions"]:
    """The position at which each question is read, of right-padded texts; the last one where a text has no such one."""
    last = last_position(batch)
    if batch.anchors is None:
        return last
    n_questions = int(batch.anchors.max())
    places = last.repeat(1, n_questions)
    rows, columns = batch.anchors.nonzero(as_tuple=True)
    places[rows, batch.anchors[rows, columns] - 1] = columns - 1
    return places
