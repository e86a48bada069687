"""Trainable explainer networks: they own their weights, never the explained model."""

from explainer.explainers.base import AbstractMaskExplainer as AbstractMaskExplainer
from explainer.explainers.encoder import EncoderExplainer as EncoderExplainer
from explainer.explainers.lora import LoraExplainer as LoraExplainer
from explainer.explainers.response import AttentionExplainer as AttentionExplainer
from explainer.explainers.response import ResponseExplainer as ResponseExplainer
from explainer.explainers.separate import SeparateExplainer as SeparateExplainer
from explainer.explainers.side import SideExplainer as SideExplainer

_ALL: tuple[type[AbstractMaskExplainer], ...] = (
    SeparateExplainer,
    LoraExplainer,
    SideExplainer,
    EncoderExplainer,
    AttentionExplainer,
    ResponseExplainer,
)
EXPLAINERS: dict[str, type[AbstractMaskExplainer]] = {explainer.kind: explainer for explainer in _ALL}
