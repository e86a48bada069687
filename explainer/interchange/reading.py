"""Outputs of captum, SHAP, LIME, ferret, transformers-interpret and inseq as explanations, by the shape they have.

An `Explanation` shows itself, and its `record()` is a line that `explainer evaluate` reads.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from explainer.explained import ExplainedModel
from explainer.explained.tasks import TargetLike
from explainer.explanation import Explanation
from explainer.interchange.alignment import explanation_of, of_spans, of_tokens, spans_of


def from_captum(
    explained: ExplainedModel,
    text: str,
    input_ids: Any,
    attributions: Any,
    target: TargetLike,
    method: str = "captum",
) -> Explanation:
    """Attributions (seq) or (seq, hidden), also with a batch of one in front; those of dimensions are added up.

    Args:
        input_ids: (seq) that captum got, specials included.

    Raises:
        ValueError: when the tokens are not those of `text`, or the attributions of another shape.
    """
    ids = torch.as_tensor(input_ids).detach().cpu().reshape(-1).tolist()
    values = torch.as_tensor(attributions).detach().cpu()
    values = values[0] if values.ndim > 1 and values.shape[0] == 1 and values.shape[1] == len(ids) else values
    if values.ndim not in (1, 2) or len(values) != len(ids):
        raise ValueError(
            f"`attributions` must be (seq) or (seq, hidden) of {len(ids)} tokens, got {tuple(values.shape)}."
        )
    sums = values.reshape(len(ids), -1).sum(dim=1).tolist()
    (encoded,) = explained.encode([text])
    return explanation_of(explained, encoded, of_tokens(explained, encoded, ids, sums), target, method)


def from_shap(explained: ExplainedModel, explanation: Any, target: TargetLike, method: str = "shap") -> Explanation:
    """One text's `shap.Explanation` of a text masker: `values` (pieces) or (pieces, outputs), `data` the pieces.

    What SHAP gives to empty pieces, which are special tokens, is dropped.

    Args:
        target: of several outputs, which one is read: that of this label or index.

    Raises:
        ValueError: for several texts at once, or pieces that are not those of one text.
    """
    pieces, values = [str(piece) for piece in explanation.data], np.asarray(explanation.values, dtype=float)
    if len(values) != len(pieces) or values.ndim > 2:
        raise ValueError(f"`explanation` must be of one text, such as explanation[0], got values {values.shape}.")
    if values.ndim == 2:
        values = values[:, explained.task.index_of(target)]
    text = "".join(pieces)
    (encoded,) = explained.encode([text])
    scores = of_spans(encoded, spans_of(text, pieces), values.tolist())
    return explanation_of(explained, encoded, scores, target, method)


def from_lime(explained: ExplainedModel, explanation: Any, target: TargetLike, method: str = "lime") -> Explanation:
    """A text's `lime.explanation.Explanation`: `as_map()`, and the text in `domain_mapper.indexed_string`.

    LIME weighs words, each with all its occurrences: they share the weight. Words that it left out have 0.

    Raises:
        ValueError: when it did not explain the target.
    """
    weights, index = explanation.as_map(), explained.task.index_of(target)
    if index not in weights:
        raise ValueError(f"`target` must be a label that LIME explained, of {sorted(weights)}, got {index}: `labels=`.")
    words = explanation.domain_mapper.indexed_string
    spans, scores = [], []
    for word, weight in weights[index]:
        starts = [int(start) for start in np.ravel(words.string_position(word))]
        spans += [(start, start + len(words.word(word))) for start in starts]
        scores += [float(weight) / len(starts)] * len(starts)
    (encoded,) = explained.encode([words.raw_string()])
    return explanation_of(explained, encoded, of_spans(encoded, spans, scores), index, method)


def from_ferret(explained: ExplainedModel, explanation: Any) -> Explanation:
    """A `ferret.Explanation`: `text`, `tokens`, `scores`, `explainer` and `target` (`target_pos_idx` from 0.5 on)."""
    target = explanation.target_pos_idx if hasattr(explanation, "target_pos_idx") else explanation.target
    (encoded,) = explained.encode([explanation.text])
    scores = of_tokens(explained, encoded, list(explanation.tokens), np.asarray(explanation.scores).tolist())
    return explanation_of(explained, encoded, scores, target, str(explanation.explainer))


def from_transformers_interpret(
    explained: ExplainedModel,
    text: str,
    word_attributions: Sequence[tuple[str, float]],
    target: TargetLike,
    method: str = "transformers-interpret",
) -> Explanation:
    """What a `SequenceClassificationExplainer` returns: (token, score) of every token, specials included."""
    tokens, values = [token for token, _ in word_attributions], [float(value) for _, value in word_attributions]
    (encoded,) = explained.encode([text])
    return explanation_of(explained, encoded, of_tokens(explained, encoded, tokens, values), target, method)


def from_inseq(explained: ExplainedModel, sequence: Any, prompt: str, response: str) -> dict[str, Any]:
    """A record for `explainer evaluate --task response` of a decoder's attributions.

    Args:
        sequence: one of `sequence_attributions` of inseq's output: `target` has the tokens of prompt and response,
            `target_attributions` is (target, generated), a third dimension is added up, and NaN is 0.
        prompt: its text.
        response: what was generated.

    Raises:
        ValueError: when the prompt's tokens are others than those of the explained model.
    """
    if sequence.target_attributions is None:
        raise ValueError("`sequence` has no `target_attributions`: only attributions of decoders are read.")
    n = int(sequence.attr_pos_start)
    ids = [int(token.id) for token in sequence.target[:n]]
    values = torch.as_tensor(sequence.target_attributions).detach().cpu().float().nan_to_num()
    scores = values.reshape(*values.shape[:2], -1).sum(dim=2)[:n].sum(dim=1).tolist()
    encoded = explained.tokenizer(prompt, return_offsets_mapping=True, add_special_tokens=False)
    specials = max(len(ids) - len(encoded["input_ids"]), 0)
    added = set(ids[:specials]) <= set(explained.tokenizer.all_special_ids)
    if not added or ids[specials:] != list(encoded["input_ids"]):
        raise ValueError(f"`sequence` must begin with the tokens of `prompt` {prompt!r:.60}, got {ids!r:.80}.")
    spans = zip(encoded["offset_mapping"], scores[specials:], strict=True)
    return {
        "response": response,
        "sources": [{"message": 0, "start": start, "end": end, "score": score} for (start, end), score in spans],
        "contract": {"prompt": prompt},
        "method": "inseq",
    }
