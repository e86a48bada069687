"""What an explained model says of a text is what the bare model says of it, for every family of transformers."""

import warnings

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from explainer.explained import ExplainedModel, conventions
from tests.explainer.tools import fresh, predictions
from tests.families import FAMILIES, TEXTS, explained, tokenizer
from tests.sequence_classifiers import MODEL_TYPES, NOT_BUILT, REFUSED, build

SHORT_TO_LONG = [
    "bad film",
    "this film was not good",
    "this film was not good and the plot was very dull",
    "it is very very good and not awful or dull but this plot was of it a film the plot was not fun",
]

EQUAL_LENGTHS = {
    *("big_bird", "bigbird_pegasus", "convbert", "fnet", "mobilebert", "nystromformer", "t5gemma", "t5gemma2"),
    *("xlnet", "yoso"),
}
"""Families whose answer depends on padding, so that they are served in batches of equal lengths."""

FLOAT32_ONLY = {"fnet", "mra"}
"""Families of which some operation knows no bfloat16."""

UNBLOCKED = {"albert", "flaubert", "funnel", "squeezebert", "xlm"}
"""Families whose layers are no list of blocks that run one after the other."""


def itself(model: PreTrainedModel, words: PreTrainedTokenizerBase, text: str) -> torch.Tensor:
    with torch.no_grad():
        return model(**words(text, return_tensors="pt")).logits[0].float()


@pytest.mark.parametrize("model_type", [name for name in MODEL_TYPES if name not in NOT_BUILT])
def test_every_family_answers_as_by_itself(model_type: str) -> None:
    model, words = build(model_type)
    if model_type in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[model_type]):
            ExplainedModel(model, words)
        return
    bare = torch.stack([itself(model, words, text) for text in SHORT_TO_LONG])
    served = ExplainedModel(model, words)
    encoded = served.encode(SHORT_TO_LONG)
    tolerance = {"atol": 1e-4, "rtol": 1e-4}
    torch.testing.assert_close(predictions(served, [text.tokens for text in encoded]), bare, **tolerance)
    with torch.no_grad():
        for side in ("left", "right"):
            for places in served.batches(encoded):
                batch = served.collate([encoded[i] for i in places], side=side)
                torch.testing.assert_close(served(batch).logits[:, 0], bare[places], **tolerance)
    assert served.pads == (model_type not in EQUAL_LENGTHS)
    assert bool(served._blocks) == (model_type not in UNBLOCKED)
    if served.text.max_tokens is not None:
        limit = " ".join(["good", "bad", "film", "very"] * served.text.max_tokens)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            full = served.encode([limit])[0]
        assert len(full) == served.text.max_tokens
        own = itself(model, words, " ".join(limit.split()[: len(full) - 2]))
        torch.testing.assert_close(predictions(served, [full.tokens])[0], own, **tolerance)
    half = model.bfloat16()
    if model_type in FLOAT32_ONLY:
        return
    with torch.no_grad():
        alone = [served(served.collate([text])).logits[0, 0].float() for text in encoded]
    for text, answer in zip(SHORT_TO_LONG, alone, strict=True):
        assert torch.equal(answer, itself(half, words, text))


# Padding


def test_a_tokenizer_without_padding_gets_the_end_token() -> None:
    words, model = tokenizer("decoder"), fresh("llama").model
    words.pad_token, model.config.pad_token_id = None, None
    conventions.settle_padding(model, words)
    assert words.pad_token == "</s>"
    assert model.config.pad_token_id == words.eos_token_id


def test_another_padding_than_the_model_s_is_refused() -> None:
    words, model = tokenizer("encoder"), fresh("bert").model
    model.config.pad_token_id = 7
    with pytest.raises(ValueError, match="pads with id 0, the model takes 7"):
        conventions.settle_padding(model, words)


def test_a_classifier_padded_by_its_end_token_predicts_as_before() -> None:
    """GPT-2 has no padding token: what pads is then the end token, and the pooled position must not move."""
    words, model = tokenizer("gpt2"), fresh("gpt2").model
    assert words.pad_token is None
    model.config.pad_token_id = None
    padless = ExplainedModel(model, words)
    assert words.pad_token == words.eos_token
    found = predictions(padless, [text.tokens for text in padless.encode(TEXTS)])
    with torch.no_grad():
        alone = [model(**words(text, return_tensors="pt")).logits[0] for text in TEXTS]
    assert torch.allclose(found, torch.stack(alone), atol=1e-5)


# The length limit


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_at_the_limit_goes_through_the_model(family: str) -> None:
    model = explained(family)
    limit = model.text.max_tokens
    assert limit == 40
    text = model.encode([" ".join(["fun"] * (limit - model.tokenizer.num_special_tokens_to_add()))])[0]
    assert len(text) == limit
    assert predictions(model, [text.tokens]).isfinite().all()


def test_roberta_s_positions_start_after_the_padding_index() -> None:
    words = tokenizer("roberta")
    words.model_max_length = 10**30
    assert ExplainedModel(fresh("roberta").model, words).text.max_tokens == 48 - (words.pad_token_id + 1)


def test_no_limit_anywhere_is_none() -> None:
    words = tokenizer("t5")
    words.model_max_length = 10**30
    assert conventions.configured_limit(explained("t5").model, words) is None


# The baseline token


def test_a_named_baseline_token_is_taken() -> None:
    model, words = explained("bert").model, tokenizer("encoder")
    assert conventions.baseline_token_id(model, words, "the") == words.convert_tokens_to_ids("the")
    assert conventions.baseline_token_id(model, words, "[UNK]") == words.unk_token_id
    assert conventions.baseline_token_id(model, words, "[PAD]") == words.pad_token_id  # an encoder may


def test_a_baseline_token_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="`baseline_token` 'zebra' is not one token"):
        conventions.baseline_token_id(explained("bert").model, tokenizer("encoder"), "zebra")


@pytest.mark.parametrize("family", [name for name, (kind, _) in FAMILIES.items() if kind == "decoder"])
def test_padding_is_refused_as_a_decoder_s_baseline(family: str) -> None:
    with pytest.raises(ValueError, match="is the padding token: a decoder classifier pools"):
        conventions.baseline_token_id(explained(family).model, tokenizer("decoder"), "<pad>")


def test_a_decoder_whose_every_special_token_pads_falls_back_to_a_space() -> None:
    words = tokenizer("qwen2")
    assert words.pad_token == words.eos_token == words.unk_token
    assert words.convert_ids_to_tokens(explained("qwen2").baseline_token_id) == "Ġ"


def test_without_a_token_for_a_space_there_is_no_baseline() -> None:
    words = tokenizer("t5")  # of a blank alone it makes no token
    words.unk_token = None
    words.eos_token = words.pad_token
    with pytest.raises(ValueError, match="no token to stand for 'absent'"):
        conventions.baseline_token_id(explained("llama").model, words, None)


# What is asked of the model at load


def test_a_model_that_answers_otherwise_each_time_is_refused() -> None:
    model = fresh("bert").model
    model.classifier.register_forward_hook(lambda module, inputs, output: output + torch.rand(()))
    with pytest.raises(ValueError, match="answers otherwise when it reads the same text a second time"):
        ExplainedModel(model, tokenizer("encoder"))


def test_a_model_that_cannot_read_a_text_is_refused_with_its_reason() -> None:
    model, words = build("xmod")
    model.config.default_language = None
    with pytest.raises(ValueError, match="cannot read a text by itself: ValueError: Input language unknown"):
        ExplainedModel(model, words)


def test_texts_that_may_not_share_a_batch_are_refused_by_name() -> None:
    served = ExplainedModel(*build("fnet"))
    texts = served.encode(SHORT_TO_LONG)
    with pytest.raises(ValueError, match="FNetForSequenceClassification reads them by different lengths"):
        served.collate(texts)
    assert sorted(served.batches(texts)) == [[0], [1], [2], [3]]
    assert [sorted(batch) for batch in served.batches(texts * 2)] == [[3, 7], [2, 6], [1, 5], [0, 4]]


def test_bigbird_keeps_its_attention_after_a_short_text() -> None:
    served = ExplainedModel(*build("big_bird"))
    long = [text.tokens for text in served.encode(["this film was not good and dull " * 8])]
    before = predictions(served, long)
    predictions(served, [text.tokens for text in served.encode(["bad film"])])
    assert served.model.base_model.attention_type == "block_sparse"
    assert torch.equal(predictions(served, long), before)


@pytest.mark.parametrize(
    ("model_type", "moves"), [("roberta", True), ("mpnet", True), ("bert", False), ("llama", False)]
)
def test_padding_inside_a_text_moves_the_positions_of_some_families(model_type: str, moves: bool) -> None:
    assert ExplainedModel(*build(model_type)).padding_moves_positions == moves


def test_the_position_that_the_head_reads_is_found() -> None:
    pooling = {name: ExplainedModel(*build(name)).task.pooling for name in ("eurobert", "modernbert-decoder", "bert")}
    assert pooling == {"eurobert": "mean", "modernbert-decoder": "last", "bert": "first"}


def test_a_text_that_ends_in_padding_is_read_before_it() -> None:
    """A decoder padded by its end token, whose tokenizer ends every text in that token."""
    model, words = build("llama")
    words.pad_token, model.config.pad_token_id = "</s>", words.eos_token_id
    served = ExplainedModel(model, words)
    batch = served.collate(served.encode(["bad film", "this film was good"]))
    assert served.task.read_share(batch).argmax(dim=1).tolist() == [2, 4]


def test_hidden_tokens_keep_their_positions() -> None:
    """A family that counts positions over what is attended must be told them."""
    served = ExplainedModel(*build("opt"))
    text = served.encode(["this film was not good"])[0].tokens
    hidden = torch.zeros(len(text), dtype=torch.bool)
    hidden[1] = True
    batch = served.inputs(served.model, served.collate(served.encode(["this film was not good"])))
    assert batch["position_ids"].tolist() == [list(range(len(text)))]
    shown, concealed = predictions(served, [text, text.concealed(hidden)])
    assert not torch.allclose(shown, concealed, atol=1e-3)


# Encoder-decoders read their answer at the last end token


@pytest.mark.parametrize("model_type", ["t5", "umt5", "bart", "mbart"])
def test_pairs_and_single_texts_of_an_encoder_decoder_go_together(model_type: str) -> None:
    model, words = build(model_type)
    served = ExplainedModel(model, words)
    texts, pairs = ["this film was good", "the plot", "bad"], ["it is bad", None, "not very good </s> and"]
    encoded = served.encode(texts, pairs)
    with torch.no_grad():
        own = [model(**words(t, p, return_tensors="pt")).logits[0] for t, p in zip(texts, pairs, strict=True)]
    torch.testing.assert_close(predictions(served, [text.tokens for text in encoded]), torch.stack(own))
    with pytest.raises(ValueError, match="by different numbers of end tokens"):
        served.collate(encoded)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_of_half_precision_is_no_reason_for_equal_lengths(dtype: torch.dtype) -> None:
    for model_type in ("bert", "llama", "deberta-v2"):
        model, words = build(model_type)
        assert ExplainedModel(model.to(dtype), words).pads
    model, words = build("convbert")
    assert not ExplainedModel(model.to(dtype), words).pads
