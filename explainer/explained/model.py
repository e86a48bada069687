"""The frozen model being explained: texts in, its answer out, from ids or from edited embeddings."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from explainer.explained import loading
from explainer.explained.base import AbstractExplained
from explainer.explained.batch import EncodedText, PaddingSide, TokenBatch, Tokens, collate, padded_masks
from explainer.explained.passes import EmbeddingEdit, edit_output, in_order, model_inputs, token_budgeted
from explainer.explained.readout import Readout, Target, TargetValues
from explainer.explained.tasks import AbstractTask
from explainer.explained.text import TextEncoder
from explainer.explained.weights import add_tensors


class ExplainedModel(AbstractExplained):
    """A Hugging Face model, its tokenizer and its task, frozen and in eval mode for good.

    Args:
        model: a `...ForSequenceClassification`, or one that `task` reads. Its parameters stop requiring gradients.
        tokenizer: a fast tokenizer (character offsets are needed).
        task: what the model is asked and where its answer stands; by default that of its class.
        name: what a saved explainer refers to: a hub id, a model folder or a PEFT adapter folder.
        baseline_token: what 'absent' means; by default the mask token of an encoder, the unknown (else the
            end-of-text) token of a decoder.
        batch_tokens: the token budget of one forward pass, padding included.

    Raises:
        ValueError: when no task reads this model's head, or tokenizer and model do not belong together.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        task: AbstractTask | None = None,
        name: str | None = None,
        baseline_token: str | None = None,
        batch_tokens: int = 4096,
    ) -> None:
        super().__init__(model, name, task)
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
        task: AbstractTask | None = None,
        baseline_token: str | None = None,
        batch_tokens: int = 4096,
    ) -> "ExplainedModel":
        """Load a model from a hub id, a model folder, or a PEFT adapter folder (or hub id).

        Args:
            dtype: of the weights; gradients of the attribution methods want float32, whatever the checkpoint has.
            task: loads the model by the task's `auto_model`; by default the model is a sequence classifier.

        Raises:
            ValueError: when there is no such model, or no task reads its head.
        """
        if task is None:
            model, tokenizer = loading.load_classifier(str(name), dtype)
        else:
            model, tokenizer = loading.load_for(task, str(name), dtype)
        return cls(
            model, tokenizer, task=task, name=str(name), baseline_token=baseline_token, batch_tokens=batch_tokens
        )

    # What it is

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.text.tokenizer

    @property
    def embedding(self) -> nn.Embedding:
        """The module whose output is the word embeddings."""
        return cast(nn.Embedding, self.backbone.get_input_embeddings())

    @property
    def fingerprint(self) -> str:
        """A hash of the weights, the configuration and the vocabulary: equal means equal predictions."""
        digest = hashlib.sha256()
        add_tensors(digest, loading.own_state_dict(self.model))
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
        encoded = self.task.encode(self.text, texts, text_pairs)
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

    def forward(self, batch: TokenBatch, edit: EmbeddingEdit | None = None) -> Readout:
        """What the task reads; `edit` maps the word embeddings (batch, seq, hidden) to those used instead.

        The ids are passed all the same, so that pooling, positions and padding stay right for every family.
        """
        if batch.hidden is not None and self.task.decoder_reads_text:
            raise ValueError(
                "The operator 'hide' does not reach the decoder of this encoder-decoder classifier, which reads the "
                "text a second time: use 'delete', 'replace' or 'blank'."
            )
        padded, order = batch.right_padded()
        with self._edited(in_order(edit, order)):
            output = self.model(**model_inputs(self.model, padded), **self.task.inputs(padded))
        return self.task.read(output, padded)

    @contextmanager
    def _edited(self, edit: EmbeddingEdit | None) -> Iterator[None]:
        """The edit at every place where the model embeds the text."""
        if edit is None or not self.task.decoder_reads_text:
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

        encoder, decoder = self.embedding, self.embeddings[-1]
        with edit_output(decoder, reread, call=1 if decoder is encoder else 0), edit_output(encoder, read):
            yield

    @property
    def embeddings(self) -> list[nn.Module]:
        """The modules that embed the text; an encoder-decoder that reads it twice may have two, of one table."""
        if not self.task.decoder_reads_text:
            return [self.embedding]
        decoder = self.model.base_model.get_decoder().get_input_embeddings()
        return [self.embedding] if decoder is self.embedding else [self.embedding, decoder]

    def predict(self, sequences: Sequence[Tokens]) -> Readout:
        """The answer to any number of token sequences, on the CPU, in their order."""
        if not len(sequences):
            return Readout(torch.empty(0, 1, len(self.labels)), self.task.link)
        chunks = [(places, readout.logits) for places, readout in self._chunks(sequences)]
        return Readout(_in_order(*zip(*chunks, strict=True)), self.task.link)

    def evaluate(self, sequences: Sequence[Tokens], target: Target) -> TargetValues:
        """What the model says of the target of each sequence, on the CPU, in their order.

        Within each chunk the answer is reduced to the target's numbers, so that a large vocabulary is never in memory
        for all sequences at once.

        Args:
            target: one row per sequence, without stand-ins (`Target.resolved`).
        """
        if not len(sequences):
            return Readout(torch.empty(0, 1, 1), self.task.link).of(Target.of([]))
        target = target.to("cpu")
        chunks = [(places, readout.of(target[places])) for places, readout in self._chunks(sequences)]
        places, values = zip(*chunks, strict=True)
        return TargetValues(
            *(
                None
                if getattr(values[0], field.name) is None
                else _in_order(places, [getattr(v, field.name) for v in values])
                for field in fields(TargetValues)
            )  # type: ignore[arg-type]
        )

    def predicted(self, texts: Sequence[EncodedText]) -> Target:
        """The predicted choice of every text."""
        return self.predict([text.tokens for text in texts]).predicted()

    @torch.no_grad()
    def _chunks(self, sequences: Sequence[Tokens]) -> Iterator[tuple[list[int], Readout]]:
        """The places of some sequences and the answers to them, until all had their turn; on the CPU.

        The one place that batches perturbed inputs: equal sequences are computed once, and the rest goes through in
        batches of similar length under the token budget. A sequence of which nothing is left is the baseline token.
        """
        members: dict[bytes, list[int]] = {}
        unique: list[Tokens] = []
        for place, tokens in enumerate(sequences):
            tokens = tokens if len(tokens) else self._nothing(tokens)
            if (key := tokens.key) not in members:
                unique.append(tokens)
            members.setdefault(key, []).append(place)
        places = list(members.values())
        for chunk in token_budgeted([len(tokens) for tokens in unique], self.batch_tokens):
            batch = collate([unique[i] for i in chunk], pad_token_id=self.tokenizer.pad_token_id)
            readout = self(batch.to(self.device), edit=_zeroing([unique[i] for i in chunk], self.device)).to("cpu")
            rows = [row for row, i in enumerate(chunk) for _ in places[i]]
            yield [place for i in chunk for place in places[i]], readout[rows]

    def _nothing(self, tokens: Tokens) -> Tokens:
        ids = torch.tensor([self.baseline_token_id])
        return Tokens(ids, None if tokens.token_type_ids is None else torch.zeros_like(ids))

    def baseline_embedding(self) -> Float[Tensor, " hidden"]:
        """The word embedding of the baseline token."""
        ids: Int64[Tensor, " one"] = torch.tensor([self.baseline_token_id], device=self.device)
        return self.embedding(ids)[0].detach()


def _in_order(places: Sequence[list[int]], values: Sequence[Tensor]) -> Tensor:
    """Values of chunks as one tensor, in the order of the sequences that the chunks were made of."""
    order = torch.tensor([place for chunk in places for place in chunk]).argsort()
    return torch.cat(list(values))[order]


def _zeroing(sequences: Sequence[Tokens], device: torch.device) -> EmbeddingEdit | None:
    """The embedding edit that blanks what the sequences want zeroed."""
    masks = padded_masks([tokens.zeroed for tokens in sequences], [tokens.input_ids for tokens in sequences])
    if masks is None:
        return None
    zeroed = masks.to(device)[..., None]
    return lambda embeddings: embeddings.masked_fill(zeroed, 0.0)
