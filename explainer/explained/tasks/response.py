"""A response: a language model's own answer, or any other, under teacher forcing.

The model reads the prompt and the response. What is explained is the sum, over the target's tokens, of the logit that
the model gives each of them at the token before it (or of its log-probability). The tokens of the target are marked by
`Tokens.anchors`; without marks the model is asked for the next token. `ExplainedResponse` makes such texts.

The encoder of an encoder-decoder reads the prompt, its decoder the response (`Tokens.decoder`), after a start token.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from explainer.explained.batch import EncodedText, TokenBatch
from explainer.explained.readout import Readout, precise
from explainer.explained.tasks.base import AbstractTask
from explainer.explained.tasks.language_model import auto_model_of, gathered, head_at, last_position, start_token
from explainer.explained.text import TextEncoder


@dataclass(frozen=True)
class Response(AbstractTask):
    """A language model that is asked for the tokens of a response; every token of the vocabulary is a choice.

    Args:
        names: the tokens of the vocabulary, once the task is bound to a model.
        decoder_start: the first token of the decoder of an encoder-decoder.
    """

    name: ClassVar[str] = "response"
    auto_model: ClassVar[Any] = AutoModelForCausalLM
    closed: ClassVar[bool] = False
    frames_text: ClassVar[bool] = True
    reads_before: ClassVar[bool] = True
    names: tuple[str, ...] = ()
    decoder_start: int | None = None

    def auto_model_of(self, config: Mapping[str, Any]) -> Any:
        return auto_model_of(config)

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
        n = int(model.config.get_text_config().vocab_size)
        pieces = tokenizer.convert_ids_to_tokens(list(range(min(n, len(tokenizer)))))
        # A table that is padded to a round size has rows without a token.
        names = tuple(pieces[i] if i < len(pieces) and pieces[i] else f"<{i}>" for i in range(n))
        return replace(self, names=names, decoder_start=start_token(model))

    def encode(
        self, encoder: TextEncoder, texts: Sequence[str], text_pairs: Sequence[str | None] | None = None
    ) -> list[EncodedText]:
        """Texts as prompts, after which the next token is asked for."""
        return encoder.encode_framed((0,), texts, text_pairs, ends_with_frame=self.decoder_start is None)

    def inputs(self, batch: TokenBatch) -> dict[str, Any]:
        if self.decoder_start is None:
            return {}
        start = torch.full_like(batch.input_ids[:, :1], self.decoder_start)
        if batch.decoder is None:
            return {"decoder_input_ids": start}
        return {"decoder_input_ids": torch.cat([start, batch.decoder[:, 0, :-1]], dim=1)}

    @contextmanager
    def reading(self, model: nn.Module, batch: TokenBatch) -> Iterator[None]:
        """Give the head the states of the positions that are read, and no others."""
        with head_at(model, self.places(batch)):
            yield

    def places(self, batch: TokenBatch) -> Int64[Tensor, "batch questions"]:
        """The position at which each question is read; of an encoder-decoder, that of its decoder."""
        if self.decoder_start is None:
            return read_places(batch)
        if batch.decoder is None:
            return torch.zeros_like(batch.input_ids[:, :1])
        return _before_anchors(F.pad(batch.decoder[:, 1], (1, 0)), torch.zeros_like(batch.input_ids[:, :1]))

    def read(self, output: Any, batch: TokenBatch) -> Readout:
        logits, places = output.logits, self.places(batch)
        if logits.shape[1] != places.shape[1]:  # of a pass outside of `reading`
            logits = gathered(logits, places)
        return Readout(precise(logits), self.link)

    def read_share(self, batch: TokenBatch) -> Float[Tensor, "batch seq"]:
        """Equal shares of the positions before the target's tokens."""
        if self.decoder_start is not None:
            if batch.decoder is None:
                return torch.ones_like(batch.input_ids[:, :1], dtype=torch.float32)
            before = batch.decoder[:, 1] > 0
            return before.float() / before.sum(dim=1, keepdim=True)
        seq = batch.input_ids.shape[1]
        if batch.anchors is None:
            return F.one_hot(read_places(batch)[:, 0], seq).float()
        before = F.pad(batch.anchors[:, 1:], (0, 1)) > 0
        return before.float() / before.sum(dim=1, keepdim=True)


def read_places(batch: TokenBatch) -> Int64[Tensor, "batch questions"]:
    """The position at which each question is read, of right-padded texts; the last one where a text has no such one."""
    last = last_position(batch)
    return last if batch.anchors is None else _before_anchors(batch.anchors, last)


def _before_anchors(
    anchors: Int64[Tensor, "batch seq"], otherwise: Int64[Tensor, "batch 1"]
) -> Int64[Tensor, "batch questions"]:
    """The position before each anchor; another one where a text has no such question."""
    places = otherwise.repeat(1, int(anchors.max()))
    rows, columns = anchors.nonzero(as_tuple=True)
    places[rows, anchors[rows, columns] - 1] = columns - 1
    return places
