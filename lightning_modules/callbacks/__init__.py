"""What happens beside a training step: pictures and comparisons."""

from lightning_modules.callbacks.heatmaps import Heatmaps as Heatmaps
from lightning_modules.callbacks.method_comparison import MethodComparison as MethodComparison
from lightning_modules.callbacks.method_faithfulness import MethodFaithfulness as MethodFaithfulness
