"""The frozen classifier being explained: texts in, label logits out, from ids or from edited embeddings."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from explainer.explained import loading
from explainer.explained.base import AbstractExplained, at_least_float32
from explainer.explained.batch import EncodedText, PaddingSide, TokenBatch, Tokens, collate, pad
from explainer.explained.passes import EmbeddingEdit, edit_output, in_order, model_inputs, token_budgeted
from explainer.explained.text import TextEncoder
from explainer.typing import Logits


class ExplainedModel(AbstractExplained):
    """A Hugging Face sequence classifier and its tokenizer, frozen and in eval mode for good.

    Args:
        model: a `...ForSequenceClassification`; its parameters stop requiring gradients.
        tokenizer: a fast tokenizer (character offsets are needed).
        name: what a saved explainer refers to: a hub id, a model folder or a PEFT adapter folder.
        baseline_token: what 'absent' means; by default the mask token of an encoder, the unknown (else the
            end-of-text) token of a decoder.
        batch_tokens: the token budget of one forward pass, padding included.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str | None = None,
        baseline_token: str | None = None,
        batch_tokens: int = 4096,
    ) -> None:
        super().__init__(model, name)
        if batch_tokens < 1:
            raise ValueError(f"`batch_tokens` must be a positive number of tokens, got {batch_tokens}.")
        self.batch_tokens = batch_tokens
        loading.settle_padding(model, tokenizer)
        self.text = TextEncoder(tokenizer, loading.max_tokens(model, tokenizer))
        self.baseline_token_id = loading.baseline_token_id(model, tokenizer, baseline_token)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        dtype: torch.dtype = torch.float32,
        baseline_token: str | None = None,
        batch_tokens: int = 4096,
    ) -> "ExplainedModel":
        """Load a classifier from a hub id, a model folder, or a PEFT adapter folder (or hub id).

        Args:
            dtype: of the weights; gradients of the attribution methods want float32, whatever the checkpoint has.

        Raises:
            ValueError: when there is no such model, or it is no sequence classifier.
        """
        model, tokenizer = loading.load_classifier(str(name), dtype)
        return cls(model, tokenizer, name=str(name), baseline_token=baseline_token, batch_tokens=batch_tokens)

    # What it is

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.text.tokenizer

    @property
    def is_encoder(self) -> bool:
        """Whether the backbone reads the text in both directions (an encoder-decoder's encoder does)."""
        return not hasattr(self.model, "score") or self.model.config.is_encoder_decoder

    @property
    def embedding(self) -> nn.Embedding:
        """The module whose output is the word embeddings."""
        return cast(nn.Embedding, self.backbone.get_input_embeddings())

    def pooling(self, batch: TokenBatch) -> Float[Tensor, "batch seq"]:
        """The share with which the head reads each position of the last layer: 1 at the first or the last token, or
        evenly over all of them. Of an encoder-decoder, positions of the decoder, which reads as many as the encoder.
        """
        mask = batch.attention_mask.float()
        if getattr(self.model.config, "classifier_pooling", "cls") == "mean":
            return mask / mask.sum(dim=1, keepdim=True)
        first = hasattr(self.model, "score") is False and not self.model.config.is_encoder_decoder
        at = mask.argmax(dim=1) if first else mask.shape[1] - 1 - mask.flip(1).argmax(dim=1)
        return F.one_hot(at, mask.shape[1]).float()

    @property
    def fingerprint(self) -> str:
        """A hash of the weights, the configuration and the vocabulary: equal means equal predictions."""
        digest = hashlib.sha256()
        for key, tensor in sorted(loading.own_state_dict(self.model).items()):
            digest.update(key.encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        digest.update(json.dumps(self.model.config.to_dict(), sort_keys=True, default=str).encode())
        digest.update(self.text.fingerprint.encode())
        digest.update(str(self.baseline_token_id).encode())
        return digest.hexdigest()

    # Texts to batches

    def encode(self, texts: Sequence[str], text_pairs: Sequence[str | None] | None = None) -> list[EncodedText]:
        """Tokenize without padding; a text longer than the model is cut, with a warning that says by how much.

        Raises:
            TypeError: when a text is not a string.
            ValueError: when a text has no token at all, or an end token inside that the model's pooling would take
                for its end.
        """
        encoded = self.text.encode(texts, text_pairs)
        for i, text in enumerate(encoded if self.model.config.is_encoder_decoder else []):
            if (text.tokens.input_ids == self.model.config.eos_token_id).sum() > 1:
                raise ValueError(f"`texts[{i}]` contains the end token {self.tokenizer.eos_token!r}: take it out.")
        return encoded

    def collate(self, encoded: Sequence[EncodedText], side: PaddingSide = "right") -> TokenBatch:
        """Encoded texts as one padded batch on the model's device."""
        batch = collate(
            [text.tokens for text in encoded],
            [text.scorable for text in encoded],
            pad_token_id=self.tokenizer.pad_token_id,
            side=side,
        )
        return batch.to(self.device)

    # Passes

    def forward(self, batch: TokenBatch, edit: EmbeddingEdit | None = None) -> Logits:
        """Label logits in float32; `edit` maps the word embeddings (batch, seq, hidden) to those used instead.

        The ids are passed all the same, so that pooling, positions and padding stay right for every family.
        """
        aligned, order = batch.aligned()
        with self._edited(in_order(edit, order)):
            logits = self.model(**model_inputs(self.model, aligned)).logits
        return at_least_float32(logits)

    @contextmanager
    def _edited(self, edit: EmbeddingEdit | None) -> Iterator[None]:
        """The edit at every place where the model embeds the text."""
        if edit is None or not self.model.config.is_encoder_decoder:
            with edit_output(self.embedding, edit):
                yield
            return
        # An encoder-decoder classifier reads the text twice: its decoder gets it shifted right by one position.
        edited: list[Tensor] = []

        def read(embeddings: Tensor) -> Tensor:
            edited.append(edit(embeddings))
            return edited[0]

        def reread(embeddings: Tensor) -> Tensor:
            return torch.cat([embeddings[:, :1], edited[0][:, :-1]], dim=1)

        decoder = self.model.base_model.get_decoder().get_input_embeddings()
        with (
            edit_output(decoder, reread, call=1 if decoder is self.embedding else 0),
            edit_output(self.embedding, read),
        ):
            yield

    @torch.no_grad()
    def predict(self, rows: Sequence[Tokens]) -> Float[Tensor, "n labels"]:
        """Logits of any number of token rows, on the CPU, in their order.

        The one place that batches perturbed inputs: equal rows are computed once, and the rest goes through in
        batches of similar length under the token budget. A row of which nothing is left is the baseline token alone.
        """
        rows = [row if len(row) else self._nothing(row) for row in rows]
        seen: dict[bytes, int] = {}
        index = [seen.setdefault(row.key, len(seen)) for row in rows]
        unique = list(dict(zip(index, rows, strict=True)).values())
        logits = torch.empty(len(unique), len(self.labels), dtype=torch.promote_types(self.model.dtype, torch.float32))
        for chunk in token_budgeted([len(row) for row in unique], self.batch_tokens):
            batch = collate([unique[i] for i in chunk], pad_token_id=self.tokenizer.pad_token_id)
            logits[chunk] = self(batch.to(self.device), edit=_zeroing([unique[i] for i in chunk], self.device)).cpu()
        return logits[index]

    def _nothing(self, row: Tokens) -> Tokens:
        ids = torch.tensor([self.baseline_token_id])
        return Tokens(ids, None if row.token_type_ids is None else torch.zeros_like(ids))

    def baseline_embedding(self) -> Float[Tensor, " hidden"]:
        """The word embedding of the baseline token."""
        ids: Int64[Tensor, " one"] = torch.tensor([self.baseline_token_id], device=self.device)
        return self.embedding(ids)[0].detach()


def _zeroing(rows: Sequence[Tokens], device: torch.device) -> EmbeddingEdit | None:
    """The embedding edit that blanks what the rows want zeroed."""
    if all(row.zeroed is None for row in rows):
        return None
    masks = [torch.zeros(len(row), dtype=torch.bool) if row.zeroed is None else row.zeroed for row in rows]
    zeroed = pad(masks, False).to(device)[..., None]
    return lambda embeddings: embeddings.masked_fill(zeroed, 0.0)
