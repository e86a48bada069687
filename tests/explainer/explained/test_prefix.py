"""The prefix that sequences share: found, read once, and the same answers as without it."""

import copy
from dataclasses import replace

import pytest
import torch

from explainer.explained import ExplainedModel, Target, Tokens
from explainer.explained.prefix import SHORTEST, shared_prefix
from explainer.faithfulness.perturbation import Operator, perturb
from explainer.methods.loading import load_method
from tests.families import PROMPT, TEXTS, explained

LONG = "the movie was good and the film was bad and it was so : {text} so it is"


def asked(family: str, template: str = LONG) -> ExplainedModel:
    model = copy.deepcopy(explained(family, prompted=True))
    task = replace(model.task, prompt={**PROMPT, "template": template}, frame=())
    return ExplainedModel(model.model, model.tokenizer, task=type(task).of(task.prompt))


def row(*ids: int) -> Tokens:
    return Tokens(torch.tensor(ids))


def test_the_prefix_is_what_all_sequences_begin_with_untouched_and_each_goes_on() -> None:
    begin = tuple(range(3, 3 + SHORTEST))
    whole = [row(*begin, 1, 2), row(*begin, 1), row(*begin, 2)]
    assert shared_prefix(whole) == SHORTEST
    assert shared_prefix([row(*begin, 5, 1), row(*begin, 5)]) == SHORTEST  # the last token is left to be read
    assert shared_prefix([row(*begin), row(*begin, 1)]) == 0
    assert shared_prefix(whole[:1]) == 0
    mask = torch.arange(SHORTEST + 1) == 2
    assert shared_prefix([whole[0], whole[1].blanked(mask)]) == 0
    assert shared_prefix([whole[0], whole[1].concealed(mask)]) == 0
    typed = replace(whole[1], token_type_ids=torch.zeros(SHORTEST + 1, dtype=torch.int64))
    assert shared_prefix([whole[0], typed]) == 0


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2", "gemma"])
@pytest.mark.parametrize("operator", ["delete", "replace", "blank", "hide"])
def test_perturbed_texts_have_the_same_answers_with_and_without(family: str, operator: Operator) -> None:
    model = asked(family)
    assert model.shares_prefix
    texts = model.encode(TEXTS[:3])
    assert model.text.max_tokens is not None
    masks = [(text, torch.rand(len(text)) < share) for text in texts for share in (0.2, 0.5, 0.8, 1.0)]
    sequences = [perturb(text, mask & text.scorable, operator, model.baseline_token_id) for text, mask in masks]
    assert shared_prefix(sequences) >= SHORTEST
    seen: list[int] = []
    hook = model.embedding.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
    with_prefix = model.predict(sequences).logits
    hook.remove()
    assert max(seen[1:]) < min(map(len, sequences))  # after the prefix itself
    target = Target.of([0] * len(sequences))
    objective = model.evaluate(sequences, target).objective
    model.shares_prefix = False
    assert (with_prefix - model.predict(sequences).logits).abs().max() < 1e-5
    assert (objective - model.evaluate(sequences, target).objective).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["leave_one_out", "sig", "context_cite", "subset_regression"])
def test_scores_are_the_same_with_and_without(name: str) -> None:
    model, target = asked("llama"), Target.of([0, 2])
    texts = model.encode(TEXTS[:2])
    scores = [load_method(name).attribute(model, texts, target).scores]
    model.shares_prefix = False
    scores.append(load_method(name).attribute(model, texts, target).scores)
    for one, other in zip(*scores, strict=True):
        assert (one - other).abs().max() < 1e-5


def test_it_is_for_causal_models_that_forget_nothing_and_for_prompts() -> None:
    assert not explained("llama").shares_prefix
    assert not explained("t5", prompted=True).shares_prefix
    assert not asked("mistral").shares_prefix  # a sliding window
