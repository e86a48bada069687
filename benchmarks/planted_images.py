"""Hit@1 of every method on generated images: is the highest scored patch the one that shows the class?

python -m benchmarks.planted_images --write runs/planted-images
python -m benchmarks.planted_images --model runs/planted-vit --explainer side=runs/planted-side
python -m benchmarks.planted_images --model runs/planted-vit --picture docs/images/patches.png
"""

import argparse
import random
from pathlib import Path
from time import perf_counter

import torch
from matplotlib.figure import Figure

from explainer import ImageAttributor, ImageExplanation
from explainer.data.planted_images import LABELS, PlantedImage, planted_image, write_planted_images
from explainer.explained import EncodedText, ExplainedImageModel, Target
from explainer.faithfulness import faithfulness
from explainer.faithfulness.rise import rise_curves
from explainer.methods import METHODS, AbstractMethod
from explainer.methods.loading import load_method
from explainer.metrics import bootstrap_mean, hit_at_1
from explainer.rendering.image import overlay

SEED = 1
"""Another than that of the written images."""


def answered(explained: ExplainedImageModel, n: int) -> tuple[list[PlantedImage], list[EncodedText], Target]:
    """The first `n` new images that the model names rightly."""
    draw, kept = random.Random(SEED), list[PlantedImage]()
    while len(kept) < n:
        images = [planted_image(draw) for _ in range(n)]
        predicted = explained.predicted(explained.encode([one.pixels for one in images])).classes.tolist()
        kept += [one for one, i in zip(images, predicted, strict=True) if explained.labels[i] == one.label]
    texts = explained.encode([one.pixels for one in kept[:n]])
    return kept[:n], texts, explained.predicted(texts)


def picture(explained: ExplainedImageModel, file: Path) -> None:
    """Four images, one of each class, and below each its patches by AttnLRP's scores."""
    draw, shown = random.Random(SEED), dict[str, ImageExplanation]()
    attributor = ImageAttributor.of(explained, "attn_lrp", gamma=0.1)
    while len(shown) < len(LABELS):
        image = planted_image(draw)
        (one,) = attributor([image.pixels])
        if one.target_label == image.label:
            shown.setdefault(image.label, one)
    figure = Figure(figsize=(8, 4.3), layout="constrained", facecolor="white")
    for above, below, label in zip(*figure.subplots(2, len(LABELS)), LABELS, strict=True):
        above.imshow(shown[label].picture, interpolation="nearest")
        below.imshow(overlay(shown[label].picture, shown[label].table), interpolation="nearest")
        above.set_title(label, fontsize=10)
        above.set_axis_off()
        below.set_axis_off()
    figure.savefig(file, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--explainer", nargs="*", default=[], help="LABEL=FOLDER")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--n", type=int, default=200)
    arguments = parser.parse_args()
    if arguments.write is not None:
        write_planted_images(arguments.write, {"train": 4000, "validation": 400, "test": 400})
        return
    explained = ExplainedImageModel.from_pretrained(arguments.model)
    if arguments.picture is not None:
        picture(explained, arguments.picture)
        return
    images, texts, target = answered(explained, arguments.n)
    methods: dict[str, AbstractMethod] = {name: METHODS[name]() for name in arguments.methods.split(",")}
    for name in ("attn_lrp", "cp_lrp"):
        if name in methods:
            methods[f"{name}, gamma 0.1"] = load_method(name, explained, gamma=0.1)
    for item in arguments.explainer:
        label, _, folder = item.partition("=")
        methods[label] = load_method(folder, explained)
    print("| method | Hit@1 | comp@20 | suff@20 | deletion | insertion | ms per image |\n|---|---|---|---|---|---|---|")
    for label, method in methods.items():
        start = perf_counter()
        attributions = method.attribute(explained, texts, target)
        cost = 1000 * (perf_counter() - start) / len(texts)
        patches = [row[explained.grid.n_special :] for row in attributions.scores]
        every = torch.ones(len(patches[0]), dtype=torch.bool)
        shows = [torch.arange(len(every)) == one.patch for one in images]
        hit = bootstrap_mean([hit_at_1(*pair, every) for pair in zip(patches, shows, strict=True)])
        values = faithfulness(explained, attributions, ["comprehensiveness", "sufficiency"], operator="replace")
        curves = rise_curves(explained, attributions)
        areas = (*values.values(), curves.deletion_area, curves.insertion_area)
        numbers = " | ".join(f"{float(one.mean()):.3f}" for one in areas)
        print(f"| {label} | {hit} | {numbers} | {cost:.1f} |", flush=True)


if __name__ == "__main__":
    main()
