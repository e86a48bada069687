"""Everything that accompanies a training without being a part of it: pictures, comparisons, progress."""

from lightning_modules.callbacks.checkpoints import Best as Best
from lightning_modules.callbacks.heatmaps import Heatmaps as Heatmaps
from lightning_modules.callbacks.method_comparison import MethodComparison as MethodComparison
from lightning_modules.callbacks.method_faithfulness import MethodFaithfulness as MethodFaithfulness
from lightning_modules.callbacks.progress_lines import ProgressLines as ProgressLines
