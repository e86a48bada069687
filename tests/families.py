"""Tiny random classifiers of every model family, with tokenizers of their class: all built here, nothing loaded."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    ModernBertConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
    RobertaConfig,
    T5Config,
)

from explainer.explained import ExplainedModel, PromptedClassification, ZeroShotClassification
from tests.real_tokenizers import WORDS as WORDS
from tests.real_tokenizers import real_tokenizer

PIECES = ["##s", "##ly", "##ing", "##ful", ".", ",", "!", *[chr(c) for c in range(97, 123)]]
PIECES += [f"##{chr(c)}" for c in range(97, 123)]


def tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """`encoder`: WordPiece, [CLS] text [SEP] pair [SEP]; `decoder`: Llama's; or a kind of `tests.real_tokenizers`."""
    if kind != "encoder":
        return real_tokenizer("llama" if kind == "decoder" else kind)
    specials = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    specials |= {"mask_token": "[MASK]"}
    vocabulary = {token: i for i, token in enumerate([*specials.values(), *WORDS.split(), *PIECES])}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token=specials["unk_token"]))
    backend.normalizer = normalizers.BertNormalizer(strip_accents=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    used = [(token, vocabulary[token]) for token in specials.values()]
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=used
    )
    names = ["input_ids", "attention_mask", "token_type_ids"]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=40, model_input_names=names, padding_side="right", **specials
    )


_WIDE = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 32}
_DECODER = {**_WIDE, "num_key_value_heads": 1, "max_position_embeddings": 40}

FAMILIES: dict[str, tuple[str, Callable[..., object]]] = {
    "bert": ("encoder", lambda **k: BertConfig(**_WIDE, max_position_embeddings=40, **k)),
    "roberta": ("encoder", lambda **k: RobertaConfig(**_WIDE, max_position_embeddings=48, **k)),
    "distilbert": (
        "encoder",
        lambda **k: DistilBertConfig(dim=16, n_heads=2, n_layers=2, hidden_dim=32, max_position_embeddings=40, **k),
    ),
    "electra": (
        "encoder",
        lambda **k: ElectraConfig(**_WIDE, embedding_size=8, max_position_embeddings=40, **k),
    ),
    "modernbert": (
        "encoder",
        lambda **k: ModernBertConfig(
            **_WIDE, max_position_embeddings=40, local_attention=8, reference_compile=False, **k
        ),
    ),
    "gpt2": ("decoder", lambda **k: GPT2Config(n_embd=16, n_head=2, n_layer=2, n_positions=40, **k)),
    "llama": ("decoder", lambda **k: LlamaConfig(**_DECODER, **k)),
    "mistral": ("decoder", lambda **k: MistralConfig(**_DECODER, sliding_window=8, **k)),
    "mixtral": ("decoder", lambda **k: MixtralConfig(**_DECODER, num_local_experts=2, **k)),
    "qwen2": ("decoder", lambda **k: Qwen2Config(**_DECODER, **k)),
    "qwen3": ("decoder", lambda **k: Qwen3Config(**_DECODER, head_dim=8, **k)),
    "qwen3_moe": (
        "decoder",
        lambda **k: Qwen3MoeConfig(
            **_DECODER,
            head_dim=8,
            num_experts=2,
            num_experts_per_tok=2,
            moe_intermediate_size=16,
            norm_topk_prob=True,
            **k,
        ),
    ),
    "gemma": ("decoder", lambda **k: GemmaConfig(**_DECODER, head_dim=8, **k)),
    "t5": (
        "t5",
        lambda **k: T5Config(
            d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu", **k
        ),
    ),
}


# The families whose tokenizer is of transformers' own class; the others have the WordPiece of an encoder.
TOKENIZERS = {
    "roberta": "roberta",
    "gpt2": "gpt2",
    **dict.fromkeys(("llama", "mistral", "mixtral"), "llama"),
    **dict.fromkeys(("qwen2", "qwen3", "qwen3_moe"), "qwen2"),
    "gemma": "gemma",
    "t5": "t5",
}
# Families whose tokenizer puts special tokens around a text, so that an empty text is one.
WITH_SPECIALS = [name for name in FAMILIES if TOKENIZERS.get(name) not in ("gpt2", "qwen2")]
EXPERTS = ("mixtral", "qwen3_moe")  # mixtures of experts: their grouped matrix products know no float64


@cache
def explained(
    family: str,
    labels: int = 3,
    problem_type: str | None = None,
    prompted: bool = False,
    zero_shot: bool | None = None,
    head: Any = AutoModelForSequenceClassification,
) -> ExplainedModel:
    """A tiny random classifier; shared between tests, which is itself a test that nothing changes it.

    Args:
        zero_shot: a model for natural language inference that is asked for three labels: for one (False), or for
            several at once (True).
        prompted: a language model that is asked by `PROMPT`, instead of a model with a classification head.
        head: instead of one that classifies texts: one that tags words, or answers questions.
    """
    kind, config = FAMILIES[family]
    words = tokenizer(TOKENIZERS.get(family, kind))
    ids = {"vocab_size": len(words), "pad_token_id": words.pad_token_id, "num_labels": labels}
    ids |= {} if problem_type is None else {"problem_type": problem_type}
    ids |= {"eos_token_id": words.eos_token_id, "bos_token_id": words.bos_token_id}
    if kind == "t5":
        ids |= {"decoder_start_token_id": words.pad_token_id}
    if zero_shot is not None:
        names = ("contradiction", "neutral", "entailment")
        ids |= {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    if head is not AutoModelForSequenceClassification:
        del ids["num_labels"]
    if head is AutoModelForTokenClassification:
        ids["id2label"] = dict(enumerate(TAGS))
    task: Any = PromptedClassification.of(PROMPT) if prompted else None
    task = task if zero_shot is None else ZeroShotClassification.of(("good", "not bad", "dull"), "it is {}", zero_shot)
    made = config(**ids)
    torch.manual_seed(0)
    model = (task.auto_model_of(made.to_dict()) if task else head).from_config(made)
    with torch.no_grad():  # random heads are tiny: make the predictions differ
        for parameter in model.parameters():
            if parameter.ndim > 1 and kind != "t5":
                parameter.mul_(4)
    return ExplainedModel(model, words, task=task, name=f"tiny-{family}")


# What a classifier's output may mean; the families above are tried under each.
TASKS: dict[str, dict[str, Any]] = {
    "classification": {},
    "multi_label": {"problem_type": "multi_label_classification"},
    "regression": {"labels": 1},
}

# A classifier of pairs that is asked for labels.
ZERO_SHOT_TASKS: dict[str, dict[str, Any]] = {
    "zero_shot": {"zero_shot": False},
    "zero_shot_multi_label": {"zero_shot": True},
}

# The same of language models.
LANGUAGE_TASKS: dict[str, dict[str, Any]] = {"prompted": {"prompted": True}}
PROMPT = {
    "template": "the movie was: {text} so it is",
    "labels": {"negative": " bad", "neutral": " a", "positive": " good"},
}

# Those whose answer is about tokens of the text; each on a family that reads both ways, and a causal one.
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
ANCHORED_TASKS: dict[str, dict[str, Any]] = {
    "token-classification": {"head": AutoModelForTokenClassification},
    "question-answering": {"head": AutoModelForQuestionAnswering},
}

TEXTS = [
    "the film was great fun",
    "this movie is not good , it is awful and dull !",
    "bad",
    "nothing really awful but the plot was very very dull and it was not one of the good films",
]
