"""What has weights: the mask explainers."""

from explainer.models.base import AbstractMaskExplainer as AbstractMaskExplainer
from explainer.models.lora import LoraExplainer as LoraExplainer
from explainer.models.separate import SeparateExplainer as SeparateExplainer
from explainer.models.side import SideExplainer as SideExplainer

_ALL: tuple[type[AbstractMaskExplainer], ...] = (SeparateExplainer, LoraExplainer, SideExplainer)
EXPLAINERS: dict[str, type[AbstractMaskExplainer]] = {explainer.kind: explainer for explainer in _ALL}
