"""Labels by name and number, targets and foils as users give them; and a task that is added from a test file."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from explainer.explained import (
    PREDICTED,
    RUNNER_UP,
    AbstractTask,
    ExplainedModel,
    Readout,
    Target,
    TextClassification,
    TokenBatch,
)
from explainer.faithfulness.measures import METRIC_SPECS, faithfulness
from explainer.methods import METHODS
from explainer.methods.loading import load_method
from tests.explainer.tools import batch_of, bit_equal_logits
from tests.families import TEXTS, tokenizer

TASK = TextClassification(names=("negative", "neutral", "Positive"))
REFUSED = r"`target` must be 'predicted', one of the labels \['negative'.*got"


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        ("negative", 0),
        ("NEUTRAL", 1),
        ("positive", 2),
        (2, 2),
        (0, 0),
        ("1", 1),
        (np.int64(2), 2),
        (np.array(2), 2),
        (torch.tensor(1), 1),
    ],
)
def test_a_label_is_found_by_its_name_in_any_case_by_index_and_by_digits(wanted: Any, index: int) -> None:
    assert TASK.index_of(wanted) == index


@pytest.mark.parametrize("wanted", ["happy", 3, -1, "3", "-1", "", "--1", "²"])
def test_an_unknown_label_is_refused_with_the_labels(wanted: Any) -> None:
    with pytest.raises(ValueError, match=REFUSED):
        TASK.index_of(wanted)


@pytest.mark.parametrize("wanted", [True, 1.0, np.array(1.0), torch.tensor(1.0), torch.tensor(True)])
def test_what_is_neither_a_label_nor_an_index_is_refused(wanted: Any) -> None:
    targets = getattr(TextClassification.target, "__wrapped__", TextClassification.target)
    with pytest.raises(ValueError, match="`target` must be a label or an index, got"):
        targets(TASK, wanted, 2)
    with pytest.raises(ValueError, match="`target` must be a label or an index, got"):
        targets(TASK, ["negative", wanted], 2)


def test_the_exact_name_comes_first_and_equal_names_are_told_apart() -> None:
    assert TextClassification(names=("us", "US")).index_of("US") == 1
    with pytest.raises(ValueError, match=r"`target` 'other' fits the labels of \[0, 2\]"):
        TextClassification(names=("other", "spam", "other")).index_of("other")
    with pytest.raises(ValueError, match=r"`target` 'Us' fits the labels of \[0, 1\]"):
        TextClassification(names=("us", "US")).index_of("Us")
    with pytest.raises(ValueError, match=r"`foil` 'Us' fits the labels of \[0, 1\]"):
        TextClassification(names=("us", "US")).foil_index("Us")


def test_a_number_in_a_string_is_a_name_where_labels_are_numbers() -> None:
    stars = TextClassification(names=("1", "2", "3"))
    assert stars.index_of("1") == 0
    assert stars.index_of(1) == 1
    with pytest.raises(
        ValueError, match=r"got '0'\. Labels are numbers here.* give the label there, '1', or in Python 0"
    ):
        stars.index_of("0")
    with pytest.raises(ValueError, match=r"got '4'\.$"):
        stars.index_of("4")


def test_a_target_is_one_for_all_texts_or_one_per_text() -> None:
    assert TASK.target("predicted", 3).classes.tolist() == [PREDICTED] * 3
    assert TASK.target(["neutral", 2], 2).classes.tolist() == [1, 2]
    with pytest.raises(ValueError, match=r"`target` must be one target, or one per text \(3\), got 2"):
        TASK.target(["neutral", 2], 3)
    target = TASK.target("neutral", 2, foil="runner_up", score="log_odds")
    assert target.foil is not None
    assert target.foil[:, 0].tolist() == [RUNNER_UP] * 2
    with pytest.raises(ValueError, match="`foil` must be 'runner_up', one of the labels"):
        TASK.target("neutral", 2, foil="happy")


def test_a_regression_with_several_values_has_no_predicted_one() -> None:
    values = TextClassification(names=("length", "age"), link="identity")
    assert values.target("age", 1).classes.tolist() == [1]
    with pytest.raises(ValueError, match="`target` must name one of the values"):
        values.target("predicted", 1)


def test_several_targets_are_all_or_a_list() -> None:
    assert TASK.several("all") == [0, 1, 2]
    assert TASK.several(["neutral", 0]) == [1, 0]
    for wanted in ("neutral", []):
        with pytest.raises(ValueError, match="`targets` must be 'all' or a list"):
            TASK.several(wanted)


# A task of its own: prompted classification by label words, read at the last position of a causal language model.


@dataclass(frozen=True)
class LabelWords(AbstractTask):
    """Label words at the position after the text."""

    name: ClassVar[str] = "label-words"
    auto_model: ClassVar[Any] = AutoModelForCausalLM
    words: tuple[str, ...]
    ids: tuple[int, ...]

    @property
    def labels(self) -> list[str]:
        return list(self.words)

    def read(self, output: Any, batch: TokenBatch) -> Readout:
        last = batch.attention_mask.sum(dim=1) - 1
        rows = torch.arange(len(batch), device=last.device)
        return Readout(output.logits[rows, last][:, list(self.ids)].float()[:, None])

    def read_share(self, batch: TokenBatch) -> Tensor:
        last = batch.attention_mask.sum(dim=1) - 1
        return F.one_hot(last, batch.attention_mask.shape[1]).float()


def prompted(family: str) -> ExplainedModel:
    """A tiny random language model that is asked for one of two words."""
    words = tokenizer("decoder")
    sizes = {"vocab_size": len(words), "pad_token_id": words.pad_token_id, "bos_token_id": 1, "eos_token_id": 2}
    configs = {
        "gpt2": GPT2Config(n_embd=16, n_head=2, n_layer=2, n_positions=40, **sizes),
        "llama": LlamaConfig(
            hidden_size=16,
            num_attention_heads=2,
            num_key_value_heads=1,
            num_hidden_layers=2,
            intermediate_size=32,
            max_position_embeddings=40,
            **sizes,
        ),
    }
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(configs[family])
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    ids = tuple(words.convert_tokens_to_ids(["good", "bad"]))
    return ExplainedModel(model, words, task=LabelWords(("good", "bad"), ids), name=f"tiny-{family}-prompted")


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_an_added_task_predicts_what_the_model_says_of_its_words(family: str) -> None:
    model = prompted(family)
    batch = batch_of(model)
    for i, text in enumerate(TEXTS):
        with torch.no_grad():
            last = model.model(**model.tokenizer(text, return_tensors="pt")).logits[0, -1]
        expected = last[list(model.task.ids)]  # type: ignore[attr-defined]
        for side in ("left", "right"):
            assert torch.allclose(model(batch_of(model, side=side)).logits[i, 0], expected, atol=1e-5)
        assert torch.allclose(model(batch).logits[i, 0], expected, atol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_and_metric_works_on_an_added_task(name: str, family: str) -> None:
    model = prompted(family)
    texts = model.encode(TEXTS[:3])
    target = Target.of([0, 1, 0])
    with bit_equal_logits(model):
        attributions = load_method(name).attribute(model, texts, target)
    for text, scores in zip(texts, attributions.scores, strict=True):
        assert scores.isfinite().all()
        assert (scores[~text.scorable] == 0).all()
    # The search behind normalised AOPC takes many passes, whatever the scores are: once is enough.
    left_out = () if name == "random" else ("normalised_aopc",)
    of_texts = [metric for metric, spec in METRIC_SPECS.items() if not spec.needs_answer]
    metrics = [metric for metric in of_texts if not metric.startswith("value_") and metric not in left_out]
    values = faithfulness(model, attributions, metrics)
    assert set(values) == set(metrics)
    assert all(len(value) == len(texts) for value in values.values())


def test_a_model_that_no_task_reads_is_refused() -> None:
    model = prompted("gpt2")
    with pytest.raises(ValueError, match=r"`model` is a GPT2LMHeadModel, and no task reads its output.*pass `task`"):
        ExplainedModel(model.model, model.tokenizer)
