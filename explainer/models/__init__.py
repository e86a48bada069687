"""What has weights: the mask explainers."""

from explainer.models.base import AbstractMaskExplainer as AbstractMaskExplainer
from explainer.models.lora import LoraExplainer as LoraExplainer
from explainer.models.separate import SeparateExplainer as SeparateExplainer

EXPLAINERS: dict[str, type[AbstractMaskExplainer]] = {e.kind: e for e in (SeparateExplainer, LoraExplainer)}
