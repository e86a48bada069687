"""The learned baseline of RPI on a decoder: a small Llama, trained here on Rotten Tomatoes, and the same pipeline.

python benchmarks/decoder.py [--output runs/decoder]

Trains a tokenizer of whole words and a Llama built from a configuration, then a baseline of its last layers by
`explainer fit`, and compares the faithfulness of RPI on test texts from each kind of baseline. Checks that samples
never attend to the future.
"""

from pathlib import Path

from jsonargparse import auto_cli
from scratch import main as train
from torch import Tensor

from explainer import ExplainedModel
from explainer.data.catalog import load
from explainer.methods.rpi.baselines import record_attention, sampler
from lightning_modules.cli import main as command

DATA = "movie_reviews/rotten_tomatoes"


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
    print(f"accuracy of the decoder on the test texts: {train('llama', DATA, classifier, epochs):.3f}")
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
