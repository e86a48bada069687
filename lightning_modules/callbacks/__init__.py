"""What happens beside a training step: pictures and comparisons."""

from lightning_modules.callbacks.comparison import MethodComparison as MethodComparison
from lightning_modules.callbacks.faithfulness import MethodFaithfulness as MethodFaithfulness
from lightning_modules.callbacks.heatmaps import Heatmaps as Heatmaps
