"""The frozen model being explained: texts in, its answer out, from ids or from edited embeddings."""

import copy
import hashlib
import json
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from explainer.explained import conventions, loading
from explainer.explained.base import AbstractExplained
from explainer.explained.batch import EncodedText, PaddingSide, TokenBatch, Tokens, collate, padded_masks
from explainer.explained.passes import (
    EmbeddingEdit,
    Result,
    edit_output,
    fitted,
    in_order,
    memory_for,
    model_inputs,
    no_leaf,
    on_rows,
    token_budgeted,
    tried,
    within,
)
from explainer.explained.prefix import Prefix, after, may_share, shared_prefix
from explainer.explained.pretrained import DeviceMap
from explainer.explained.readout import PerText, Readout, Target, TargetValues
from explainer.explained.tasks import AbstractTask, TextClassification
from explainer.explained.tasks.anchored import anchors_of, unmarked
from explainer.explained.tasks.classification import Pooling
from explainer.explained.weights import add_tensors
from explainer.typing import Embeddings

CHOICES_PER_TOKEN = 4096
"""Logits that weigh as much as one token in the budget of a pass: those of a vocabulary are wider than any state."""


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

    Attributes:
        pads: whether texts of different length may share a batch. Where padding changes what the model says of a text
            (FNet, ConvBERT, XLNet), batches are of equal lengths.
        shares_prefix: whether the prompt that many sequences begin with is read once, from a key-value cache; it may
            be switched off.
        sequence_first: whether embeddings and states are (seq, batch, hidden) inside the model (XLNet).

    Raises:
        ValueError: when no task reads this model's head, tokenizer and model do not belong together, or the model
            answers otherwise through this class than by itself.
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
        conventions.settle_padding(model, tokenizer)
        self.task = self.task.bound(model, tokenizer)
        if batch_tokens < 1:
            raise ValueError(f"`batch_tokens` must be a positive number of tokens, got {batch_tokens}.")
        self.batch_tokens = batch_tokens
        self.text = conventions.text_encoder(model, tokenizer, self.embedding, self.task.inputs)
        self.baseline_token_id = conventions.baseline_token_id(model, tokenizer, baseline_token)
        self._attention_types = conventions.AttentionTypes(model)
        asked, self.task = self.task, self.task.probed
        self._ask_model()
        self.task = asked.settled(self.task, self.pads)
        self.task = self.task.measured(lambda text: self._by_itself(self.encode_probes([text])[0]))
        self.shares_prefix = self.task.frames_text and may_share(model) and self._prefix_agrees()

    @torch.no_grad()
    def _ask_model(self) -> None:
        """Let the model read a few texts by itself and again through this class; what differs decides how it is served.

        Raises:
            ValueError: when the model cannot read a text, or answers otherwise than by itself.
        """
        if any(hasattr(module, "backward_pass") for module in self.model.modules()):
            raise ValueError(
                f"`model` {type(self.model).__name__} has reversible layers, whose gradients exist in training mode "
                "only, and whose attention is drawn at random: explanations of it mean nothing."
            )
        self.pads, self.explicit_positions, self.sequence_first = True, False, False
        probes = self.encode_probes(conventions.PROBES)
        longest = max(probes, key=len)
        chain, embedded = conventions.chained_blocks(self._lists_of_blocks()), conventions.output_shapes(self.embedding)
        with chain as chained, embedded as shapes:
            own = self._by_itself(longest)
        self.sequence_first = shapes[0][0] == len(longest)  # XLNet; elsewhere the batch, here of one text, comes first
        self._blocks = next(chained(), [])
        if not bool(own.logits.isfinite().all()):
            raise ValueError(
                f"`model` {type(self.model).__name__} answers with {own.logits.flatten().tolist()[:8]} to "
                f"{longest.text!r}: its weights are broken, or overflow in {self.model.dtype}."
            )
        # Positions are given where they are those that the model counts itself.
        for explicit in (True, False) if conventions.accepts(self.model, "position_ids") else (False,):
            self.explicit_positions = explicit
            if self._close(self(self.collate([longest])).logits, own.logits):
                break
        else:
            raise ValueError(
                f"`model` {type(self.model).__name__} answers otherwise when it reads the same text a second time, so "
                "that no explanation of it means anything. Does it sample, hash or drop anything in eval mode?"
            )
        self._settle_pooling(longest)
        if not self.model._can_set_attn_implementation():  # it treats padding in its own way
            n_words = min(self.text.max_tokens or conventions.LONG_PROBE, conventions.LONG_PROBE)
            probes += self.encode_probes([" ".join((conventions.PROBES[-1].split() * n_words)[:n_words])])
        alone = Readout.joined([own if probe is longest else self._by_itself(probe) for probe in probes])
        together = self._with_missing(self(self.collate(probes)), [probe.tokens for probe in probes])
        self.pads = not self._attention_types and self._close(together.logits, alone.logits)

    def _close(self, values: Tensor, expected: Tensor) -> bool:
        return conventions.close(values, expected, self.model.dtype)

    def _settle_pooling(self, text: EncodedText) -> None:
        """Let the task read where the model reads; only methods that follow attention ask for it."""
        task = self.task
        on_interface = self.model._can_set_attn_implementation()
        if not isinstance(task, TextClassification) or self.model.config.is_encoder_decoder or not on_interface:
            return
        pooling, padding = task.pooling, self.tokenizer.pad_token_id
        if self._blocks:
            batch = self.collate([text])
            at = conventions.read_positions(self._blocks[-1], lambda: self(batch).logits)
            last = int((text.tokens.input_ids != padding).nonzero()[-1])
            places: dict[tuple[int, ...], Pooling] = {(0,): "first", (last,): "last", tuple(range(len(text))): "mean"}
            pooling = places.get(tuple(at), "unknown") if at else pooling  # a saturated head has no slope
        self.task = replace(task, pooling=pooling, passed_over=padding if pooling == "last" else None)

    @torch.no_grad()
    def _prefix_agrees(self) -> bool:
        """Whether the model answers the same when it reads the prompt from a cache."""
        whole = max(self.encode_probes(conventions.PROBES), key=len).tokens
        sequences = [whole, whole.select(torch.arange(len(whole)) < len(whole) - 1)]
        prefix = self._prefix(sequences)
        if prefix is None:
            return False
        return self._close(self._answer(sequences, prefix).logits, self._answer(sequences, None).logits)

    @cached_property
    def padding_moves_positions(self) -> bool:
        """Whether a padding token inside a text has no position, as in RoBERTa, so that all later tokens move."""
        probe = max(self.encode_probes(conventions.PROBES), key=len)
        tables = [conventions.PositionTables(self.embedding, len(probe)) for _ in range(2)]
        last = probe.scorable.nonzero()[-1, 0]
        padded = probe.tokens.input_ids.clone()
        padded[last] = self.tokenizer.pad_token_id
        for watched, ids in zip(tables, (probe.tokens.input_ids, padded), strict=True):
            with watched:
                self._by_itself(replace(probe, tokens=replace(probe.tokens, input_ids=ids)))
        return tables[0].limit != tables[1].limit

    def encode_probes(self, texts: Sequence[str]) -> list[EncodedText]:
        """Texts of our own as the task asks about them: each is its own second text where the task wants one."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of texts that are longer than the model
            return self.encode(texts, list(texts) if self.task.wants_pair else None)

    @torch.no_grad()
    def _by_itself(self, text: EncodedText) -> Readout:
        """The model's answer to what its tokenizer gives, and to nothing else.

        Raises:
            ValueError: when it cannot read it.
        """
        batch = self.collate([text])
        rows = self.task.rows(batch)
        with self._attention_types.kept():
            if rows is batch:
                output = conventions.read_alone(self.model, text.tokens, **self.task.inputs(batch))
                return self.task.read(output, batch)
            each = [conventions.read_alone(self.model, one).logits for one in rows.to("cpu").sequences()]
        return self.task.read(SimpleNamespace(logits=torch.cat(each)), batch)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        dtype: torch.dtype = torch.float32,
        task: AbstractTask | None = None,
        baseline_token: str | None = None,
        batch_tokens: int = 4096,
        device_map: DeviceMap = None,
    ) -> "ExplainedModel":
        """Load a model from a hub id, a model folder, or a PEFT adapter folder (or hub id).

        Args:
            dtype: of the weights; gradients of the attribution methods want float32, whatever the checkpoint has.
            task: loads the model by the task's `auto_model`; by default the task is that of the model's architecture.
            device_map: where the parts of the model are put, as transformers has it; needs the package `accelerate`.

        Raises:
            ValueError: when there is no such model, or no task reads its head.
        """
        if task is None:
            model, tokenizer = loading.load_by_architecture(str(name), dtype, device_map)
        else:
            model, tokenizer = loading.load_for(task, str(name), dtype, device_map)
        return cls(
            model, tokenizer, task=task, name=str(name), baseline_token=baseline_token, batch_tokens=batch_tokens
        )

    # What it is

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.text.tokenizer

    @property
    def embedding(self) -> nn.Embedding:
        """The module whose output is the word embeddings.

        Raises:
            ValueError: when the model has none.
        """
        try:
            embedding = self.backbone.get_input_embeddings()
        except NotImplementedError:
            embedding = None
        if not isinstance(embedding, nn.Embedding):
            raise ValueError(
                f"`model` {type(self.model).__name__} has no `torch.nn.Embedding` for its words (CANINE and Perceiver "
                "read characters and bytes, I-BERT's are quantised), and tokens are scored through it."
            )
        return embedding

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
            ValueError: when a text has no token at all.
        """
        return self.task.encode(self.text, texts, text_pairs)

    def batches(self, sequences: Sequence[Tokens | EncodedText]) -> list[list[int]]:
        """Indices of the sequences in batches of similar length under the token budget, of what may share a batch."""
        own = [sequence.tokens if isinstance(sequence, EncodedText) else sequence for sequence in sequences]
        n_choices = len(self.labels)
        return token_budgeted(
            # The logits of a whole vocabulary weigh in the budget too.
            [
                max(self.task.cost(one), math.ceil(self.task.n_questions(one) * n_choices / CHOICES_PER_TOKEN))
                for one in own
            ],
            self.batch_tokens,
            [self._kind(tokens) for tokens in own],
        )

    def in_batches(
        self,
        sequences: Sequence[Tokens | EncodedText],
        run: Callable[[list[int]], Result],
        leaner: Callable[[list[int]], Result] | None = None,
    ) -> Iterator[tuple[list[int], Result]]:
        """The indices of each of the `batches`, and what `run` gives for them; smaller ones where memory runs out.

        Args:
            run: called with the indices of a batch; what it returns should not be on the model's device.
            leaner: the same with less memory, for a sequence that does not fit by itself.

        Raises:
            ValueError: when a sequence does not fit into memory by itself.
        """
        lengths = [len(sequence) for sequence in sequences]

        def alone(batch: list[int]) -> Result:
            budget = self.batch_tokens
            try:  # methods that run several copies of a text at once do so under the budget
                while self.batch_tokens > lengths[batch[0]]:
                    self.batch_tokens = max(lengths[batch[0]], self.batch_tokens // 2)
                    if (result := tried(leaner or run, batch)) is not None:
                        return result[0]
                return (leaner or run)(batch)
            finally:
                self.batch_tokens = budget

        return fitted(self.batches(sequences), lengths, run, alone)

    def _kind(self, tokens: Tokens) -> tuple[int, ...]:
        """Equal for sequences that may share a batch."""
        return tuple(self._apart(tokens).values())

    def _apart(self, tokens: Tokens) -> dict[str, int]:
        """What sequences of a batch must have in common: what is said where they differ, and this one's value."""
        name = type(self.model).__name__
        apart: dict[str, int] = {
            "some have marked tokens (of a response, an entity or an answer), the others none": tokens.anchors is None
            and tokens.decoder is None
        }
        if not self.pads:
            apart[f"{name} reads them by different lengths: padding changes what it answers"] = len(tokens)
        if self.task.decoder_reads_text:  # read at the last end token, of which each text must have as many
            end_tokens = int((tokens.input_ids == self.model.config.eos_token_id).sum())
            apart[f"{name} reads them by different numbers of end tokens"] = end_tokens
        return apart

    def collate(self, encoded: Sequence[EncodedText], side: PaddingSide = "right") -> TokenBatch:
        """Encoded texts as one padded batch on the model's device.

        Raises:
            ValueError: when these texts may not share a batch.
        """
        apart = [self._apart(text.tokens) for text in encoded]
        for reason in apart[0] if apart else ():
            if len({one[reason] for one in apart}) > 1:
                raise ValueError(
                    f"`texts` may not share a batch: {reason}. Take the batches of `ExplainedModel.batches`; in a "
                    "training, `data.batch_size: 1` and `trainer.accumulate_grad_batches`."
                )
        batch = collate(
            [text.tokens for text in encoded],
            [text.scorable for text in encoded],
            pad_token_id=self.tokenizer.pad_token_id,
            side=side,
        )
        return replace(batch.to(self.device), texts=tuple(encoded))

    # Passes

    def forward(self, batch: TokenBatch, edit: EmbeddingEdit | None = None, target: Target | None = None) -> Readout:
        """What the task reads; `edit` maps the word embeddings (batch, seq, hidden) to those used instead.

        The ids are passed all the same, so that pooling, positions and padding stay right for every family.

        Args:
            target: only the logits that its number depends on are wanted; the others may be -inf.
        """
        if batch.hidden is not None and self.task.decoder_reads_text:
            raise ValueError(
                "The operator 'hide' does not reach the decoder of this encoder-decoder classifier, which reads the "
                "text a second time: use 'delete', 'replace' or 'blank'."
            )
        padded, order = batch.right_padded()
        rows = self.task.rows(padded, target)
        own_edit = on_rows(in_order(edit, order), padded, rows)
        edited = self._edited(within(rows, own_edit, self.sequence_first))
        with self._attention_types.kept(), self.task.reading(self.model, padded), edited:
            output = self.model(**self.inputs(self.model, rows), **self.task.inputs(padded))
        return self.task.answer(output, padded, target)

    def asking(self, task: AbstractTask) -> "ExplainedModel":
        """The same model, asked another task's question of sequences as it reads them."""
        other = copy.copy(self)
        other.task = task
        return other

    def inputs(self, model: nn.Module, batch: TokenBatch) -> dict[str, Any]:
        """The right-padded batch as keyword arguments of the model, or of another one of its family."""
        return model_inputs(model, batch, self.explicit_positions)

    def reading_both_ways(self, backbone: PreTrainedModel, batch: TokenBatch) -> Embeddings:
        """The last hidden states of this model's backbone, or one like it; a causal one attends in both directions."""
        both_ways = {"is_causal": False} if self.is_causal else {}
        types = conventions.AttentionTypes(backbone) if self._attention_types else self._attention_types
        with types.kept():
            return backbone(**self.inputs(backbone, batch), **both_ways).last_hidden_state

    @cached_property
    @torch.no_grad()
    def reads_both_ways(self) -> bool:
        """Whether the backbone can give a state per token in which the tokens after it have a part.

        The state of the last token but one must change with the last one, and with nothing that is padded behind it.
        """
        long, short = sorted(self.encode_probes(conventions.PROBES), key=len, reverse=True)[:2]
        ids = long.tokens.input_ids.clone()
        last = long.scorable.nonzero()[-1, 0]
        ids[last] = next((token for token in ids if token != ids[last]), self.baseline_token_id)
        changed = replace(long, tokens=replace(long.tokens, input_ids=ids))
        states = [self.reading_both_ways(self.backbone, self.collate([text])) for text in (long, changed, short)]
        if states[0].shape[1] < len(long) or torch.equal(states[0][:, last - 1], states[1][:, last - 1]):
            return False
        if not self.pads:
            return True
        padded = self.reading_both_ways(self.backbone, self.collate([long, short]))[1:, : len(short)]
        return self._close(padded, states[2][:, : len(short)])

    @contextmanager
    def _edited(self, edit: EmbeddingEdit | None) -> Iterator[None]:
        """The edit at every place where the model embeds the text."""
        if edit is None or not self.task.decoder_reads_text:
            # The decoder's start token is an input like a special token of the text: gradients and relevance reach it.
            start = _as_leaf if edit is not None and self.model.config.is_encoder_decoder else None
            with self._edited_decoder(start), edit_output(self.embedding, edit):
                yield
            return
        # An encoder-decoder classifier reads the text twice: its decoder gets it shifted right by one position.
        edited: list[Tensor] = []

        def read(embeddings: Tensor) -> Tensor:
            edited.append(no_leaf(edit(embeddings)))  # what both read is one tensor, and so is its gradient
            return edited[0]

        def reread(embeddings: Tensor) -> Tensor:
            return torch.cat([embeddings[:, :1], edited[0][:, :-1]], dim=1)

        with self._edited_decoder(reread), edit_output(self.embedding, read):
            yield

    def _edited_decoder(self, edit: EmbeddingEdit | None) -> AbstractContextManager[None]:
        """The edit where the decoder embeds its input; it may share the encoder's table, which is called first."""
        if edit is None:
            return nullcontext()
        decoder = self._decoder_embedding
        return edit_output(decoder, edit, call=1 if decoder is self.embedding else 0)

    @property
    def _decoder_embedding(self) -> nn.Module:
        return self.model.base_model.get_decoder().get_input_embeddings()

    @property
    def embeddings(self) -> list[nn.Module]:
        """The modules that embed the text; an encoder-decoder that reads it twice may have two, of one table."""
        if not self.task.decoder_reads_text:
            return [self.embedding]
        decoder = self._decoder_embedding
        return [self.embedding] if decoder is self.embedding else [self.embedding, decoder]

    def predict(self, sequences: Sequence[Tokens]) -> Readout:
        """The answer to any number of token sequences, on the CPU, in their order.

        There are as many questions as the sequence with the most has; -inf is the logit of every choice of those that a
        sequence does not have.

        Raises:
            ValueError: when a logit is NaN or infinite, naming the sequence.
        """
        if not len(sequences):
            return Readout(torch.empty(0, 1, len(self.labels)), self.task.link)
        places, parts = zip(*self._chunks(sequences, lambda readout, places: readout.to("cpu")), strict=True)
        return self._with_missing(Readout.joined(parts)[_order(places)], sequences)

    def _with_missing(self, readout: Readout, sequences: Sequence[Tokens]) -> Readout:
        """The answers to these sequences, -inf at the questions that one has not."""
        n_questions = readout.logits.shape[1]
        asked = [self.task.n_questions(one) for one in sequences]
        missing = torch.arange(n_questions) >= torch.tensor(asked)[:, None]
        return Readout(
            readout.logits.masked_fill(missing[..., None].to(readout.logits.device), -torch.inf), readout.link
        )

    def evaluate(self, sequences: Sequence[Tokens], target: Target) -> TargetValues:
        """What the model says of the target of each sequence, on the CPU, in their order.

        Within each chunk the answer is reduced to the target's numbers, so that a large vocabulary is never in memory
        for all sequences at once.

        Args:
            target: one row per sequence, without stand-ins (`Target.resolved`).

        Raises:
            ValueError: when a logit is NaN or infinite, naming the sequence.
        """
        if not len(sequences):
            return Readout(torch.empty(0, 1, 1), self.task.link).of(Target.of([]))
        for one in sequences if self.task.anchored else ():
            anchors_of(one)
        target = target.to("cpu")

        def reduce(readout: Readout, places: list[int]) -> TargetValues:
            return readout.of(target[places].to(readout.logits.device)).to("cpu")

        places, values = zip(*self._chunks(sequences, reduce), strict=True)
        return TargetValues.joined(values)[_order(places)]

    def objective(
        self,
        batch: TokenBatch,
        target: Target,
        edit: EmbeddingEdit | None = None,
        scoring: AbstractContextManager[None] | None = None,
    ) -> PerText:
        if self.task.anchored:
            anchors_of(batch)
        return super().objective(batch, target, edit, scoring)

    def predicted(self, texts: Sequence[EncodedText]) -> Target:
        """The predicted choice of every text; of marked texts, what is marked there where that is the predicted one."""
        if self.task.anchored:
            return self.asked(texts)[1]
        return self.predict([text.tokens for text in texts]).predicted()

    def asked(
        self, texts: Sequence[EncodedText], wanted: Any = "predicted", foil: Any = None, score: str = "logit"
    ) -> tuple[list[EncodedText], Target]:
        """The texts as they are explained, and what is explained of each: what methods and metrics take.

        Of a classifier these are the texts themselves. Where the answer is about tokens of the text, an entity or the
        answer to a question, these tokens are marked; marks that were there are taken away first.

        Args:
            wanted: "predicted", a label or an index; of marked texts "predicted", (start, end) characters of the text
                (of the context, for questions), a part of it that occurs once, or the number of a token; or a list with
                one of these per text.
            foil: what the target is contrasted with: "runner_up", or as `wanted` (of entities a tag or a type).
            score: the number that is explained.

        Raises:
            ValueError: when a label or span is unknown, there is not one per text, or the foil is the target itself.
        """
        plain = [unmarked(text) for text in texts] if self.task.anchored else list(texts)
        return self.task.asked(plain, self.predict([text.tokens for text in plain]), wanted, foil, score)

    @torch.no_grad()
    def _chunks(
        self, sequences: Sequence[Tokens], reduce: Callable[[Readout, list[int]], Result]
    ) -> Iterator[tuple[list[int], Result]]:
        """The places of some sequences and what `reduce` makes of the answers to them, until all had their turn.

        The one place that batches perturbed inputs: equal sequences are computed once, and the rest goes through in
        batches of similar length under the token budget. Where nothing is left, or nothing before an answer, the
        baseline token stands there.
        """
        members: dict[bytes, list[int]] = {}
        unique: list[Tokens] = []
        for place, tokens in enumerate(sequences):
            tokens = self._readable(tokens)
            if (key := tokens.key) not in members:
                unique.append(tokens)
            members.setdefault(key, []).append(place)
        places = list(members.values())
        prefix = self._prefix(unique) if self.shares_prefix else None

        def answer(chunk: list[int]) -> tuple[list[int], Result]:
            readout = self._answer([unique[i] for i in chunk], prefix)
            shown = [(places[i][0], unique[i]) for i in chunk]
            readout.check_finite(partial(self._shown, shown))
            rows = [row for row, i in enumerate(chunk) for _ in places[i]]
            owners = [place for i in chunk for place in places[i]]
            return owners, reduce(readout[rows], owners)

        for _, answered in self.in_batches(unique, answer):
            yield answered

    def _prefix(self, sequences: Sequence[Tokens]) -> Prefix | None:
        """What all sequences begin with, read once; None where that is not worth a pass."""
        length = shared_prefix(sequences)
        ids = sequences[0].input_ids[:length].to(self.device) if length else None
        if ids is None:
            return None
        with memory_for(f"A prompt of {length} tokens"):
            return Prefix(self.model, ids, self.explicit_positions)

    def _answer(self, sequences: Sequence[Tokens], prefix: Prefix | None) -> Readout:
        """The answer to sequences that share a batch."""
        if prefix is not None:
            sequences = [after(tokens, prefix.length) for tokens in sequences]
        batch = collate(sequences, pad_token_id=self.tokenizer.pad_token_id).to(self.device)
        edit = _zeroing(sequences, self.device)
        if prefix is None:
            return self(batch, edit=edit)
        with self.task.reading(self.model, batch), self._edited(edit):
            output = self.model(**prefix.inputs(self.model, batch), **self.task.inputs(batch))
        return self.task.read(output, batch)

    def _shown(self, sequences: Sequence[tuple[int, Tokens]], row: int) -> str:
        place, tokens = sequences[row]
        return f"`sequences[{place}]` ({self.tokenizer.decode(tokens.input_ids)[:80]!r})"

    def _readable(self, tokens: Tokens) -> Tokens:
        if not len(tokens):
            ids = torch.tensor([self.baseline_token_id])
            return Tokens(ids, None if tokens.token_type_ids is None else torch.zeros_like(ids))
        if not self.task.reads_before or tokens.anchors is None or not int(tokens.anchors[0]):
            return tokens
        return tokens.preceded_by(self.baseline_token_id)

    def baseline_embedding(self) -> Float[Tensor, " hidden"]:
        """The word embedding of the baseline token."""
        ids: Int64[Tensor, " one"] = torch.tensor([self.baseline_token_id], device=self.device)
        return self.embedding(ids)[0].detach()


def _as_leaf(embeddings: Tensor) -> Tensor:
    """The same numbers, from which gradients start where any are wanted."""
    return embeddings.detach().requires_grad_(torch.is_grad_enabled())


def _order(places: Sequence[list[int]]) -> Tensor:
    """The rows of the values of chunks, one after the other, in the order of the sequences they were made of."""
    return torch.tensor([place for chunk in places for place in chunk]).argsort()


def _zeroing(sequences: Sequence[Tokens], device: torch.device) -> EmbeddingEdit | None:
    """The embedding edit that blanks what the sequences want zeroed."""
    masks = padded_masks([tokens.zeroed for tokens in sequences], [tokens.input_ids for tokens in sequences])
    if masks is None:
        return None
    zeroed = masks.to(device)[..., None]
    return lambda embeddings: embeddings.masked_fill(zeroed, 0.0)
