"""What the sets of a ranking's highest tokens are worth: the differences that faithfulness adds up."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int64

from explainer.explained import Attributions, EncodedText, ExplainedModel, Target, TokenBatch
from explainer.explained.passes import fitted, token_budgeted
from explainer.faithfulness.curves import PERCENTS, Percents, Perturbation, curves, top_count
from explainer.faithfulness.perturbation import Operator

Drawn = Float[torch.Tensor, "batch draws seq"]
Values = Float[torch.Tensor, "batch draws points"]
Counts = Int64[torch.Tensor, "batch points"]
Sets = Bool[torch.Tensor, "batch draws points seq"]


def top_set_values(
    explained: ExplainedModel, attributions: Attributions, percents: Percents = PERCENTS, operator: Operator = "delete"
) -> Float[torch.Tensor, "n percents"]:
    """p(only the k highest tokens) - p(all but the k highest) at each percent, the others taken out; 0 where k is 0.

    Their sum over the percents is six times AOPC-comprehensiveness minus AOPC-sufficiency. Where the task has no
    probabilities, they are differences of values.
    """
    rest, top = Perturbation(operator, "rest"), Perturbation(operator, "top")
    measured = curves(explained, attributions, {rest: percents, top: percents})
    of = measured.value if measured.probabilities is None else measured.probability
    return of(rest) - of(top)


def drawn_set_values(
    explained: ExplainedModel,
    texts: Sequence[EncodedText],
    batch: TokenBatch,
    target: Target,
    drawn: Drawn,
    percents: Percents = PERCENTS,
    operator: Operator = "delete",
) -> tuple[Values, Sets]:
    """`top_set_values` of several rankings of each text, and the sets themselves.

    Args:
        texts: those of the batch.
        drawn: scores of each ranking, without ties, on the device of the batch.
    """
    sets = top_sets(drawn, batch.scorable, _top_counts(texts, percents).to(drawn.device))
    if reads_padded_texts(explained) and operator in ("delete", "replace"):
        return _of_batch(explained, batch, target, sets, operator).to(drawn), sets
    draws = drawn.shape[1]
    real = batch.attention_mask.bool()
    attributions = Attributions(
        [text for text in texts for _ in range(draws)],
        target.to("cpu").repeat_interleave(draws),
        [row[own].cpu() for rows, own in zip(drawn, real, strict=True) for row in rows],
    )
    values = top_set_values(explained, attributions, percents, operator)
    return values.view(len(texts), draws, -1).to(drawn), sets


def top_sets(drawn: Drawn, scorable: Bool[torch.Tensor, "batch seq"], counts: Counts) -> Sets:
    """The highest tokens of each ranking, as many as each point counts."""
    rank = drawn.masked_fill(~scorable[:, None], -torch.inf).argsort(dim=2, descending=True).argsort(dim=2)
    return (rank[:, :, None] < counts[:, None, :, None]) & scorable[:, None, None]


def _top_counts(texts: Sequence[EncodedText], percents: Percents = PERCENTS) -> Counts:
    """How many of the highest tokens of each text are in the set of each percent."""
    lengths = [text.n_scorable for text in texts]
    return torch.tensor([[top_count(n, percent) for percent in percents] for n in lengths])


def reads_padded_texts(explained: ExplainedModel) -> bool:
    """Whether any text may be padded, and the answer is read of the text as a whole."""
    task = explained.task
    return explained.pads and not (task.anchored or task.decoder_reads_text or explained.shares_prefix)


@torch.no_grad()
def _of_batch(explained: ExplainedModel, batch: TokenBatch, target: Target, top: Sets, operator: Operator) -> Values:
    """The values, made and read on the model's device: nothing is done text by text, so that it is not kept waiting."""
    scorable, real = batch.scorable[:, None, None], batch.attention_mask.bool()[:, None, None, None]
    kept = torch.stack([top | ~scorable, ~top], dim=3) & real  # (batch, draws, points, which, seq)
    values = torch.zeros(kept.shape[:4], device=batch.device)
    places = top.any(dim=3, keepdim=True).expand_as(values).nonzero()
    # Draws of one text have many sets in common: each is read once.
    sets, where = torch.cat([places[:, :1], kept[tuple(places.T)]], dim=1).unique(dim=0, return_inverse=True)
    texts, rows = sets[:, 0], sets[:, 1:].bool()
    lengths = (rows if operator == "delete" else batch.attention_mask[texts]).sum(dim=1).tolist()

    def measure(chunk: list[int]) -> Float[torch.Tensor, " chunk"]:
        of = texts[chunk]
        left = (_deleted if operator == "delete" else _replaced)(explained, batch[of], rows[chunk]).right_padded()[0]
        answers = explained(left.columns(max(lengths[i] for i in chunk))).of(target[of])
        return answers.value if answers.probability is None else answers.probability

    found = torch.zeros(len(sets), device=batch.device)
    batches = token_budgeted(lengths, explained.batch_tokens, [()] * len(lengths))
    for chunk, of_chunk in fitted(batches, lengths, measure, alone=measure):
        found[chunk] = of_chunk.to(found)
    values[tuple(places.T)] = found[where]
    return values[..., 0] - values[..., 1]


def _deleted(explained: ExplainedModel, batch: TokenBatch, kept: Bool[torch.Tensor, "batch seq"]) -> TokenBatch:
    return replace(
        batch,
        input_ids=batch.input_ids.where(kept, explained.tokenizer.pad_token_id),
        attention_mask=kept.to(batch.attention_mask),
    )


def _replaced(explained: ExplainedModel, batch: TokenBatch, kept: Bool[torch.Tensor, "batch seq"]) -> TokenBatch:
    if batch.patches is not None:
        return replace(batch, patches=batch.patches.where(kept[..., None], 0.0))
    kept = kept | ~batch.attention_mask.bool()
    return replace(batch, input_ids=batch.input_ids.where(kept, explained.baseline_token_id))
