"""Amortex: trained explainers for transformers. This page is the table of contents."""

from explainer.attributor import Attributor as Attributor
from explainer.attributor.pipeline import TokenAttributionPipeline as TokenAttributionPipeline
from explainer.attributor.trust import Fallback as Fallback
from explainer.explained import AbstractTask as AbstractTask
from explainer.explained import Attributions as Attributions
from explainer.explained import EncodedText as EncodedText
from explainer.explained import ExplainedImageModel as ExplainedImageModel
from explainer.explained import ExplainedModel as ExplainedModel
from explainer.explained import ImageClassification as ImageClassification
from explainer.explained import PromptedClassification as PromptedClassification
from explainer.explained import Readout as Readout
from explainer.explained import Target as Target
from explainer.explained import TextClassification as TextClassification
from explainer.explained import TokenBatch as TokenBatch
from explainer.explainers import AbstractMaskExplainer as AbstractMaskExplainer
from explainer.explainers import LoraExplainer as LoraExplainer
from explainer.explainers import SeparateExplainer as SeparateExplainer
from explainer.explainers import SideExplainer as SideExplainer
from explainer.explanation import Explanation as Explanation
from explainer.explanation import Trust as Trust
from explainer.methods import METHODS as METHODS
from explainer.methods import AbstractMethod as AbstractMethod
from explainer.methods.loading import load_method as load_method
from explainer.scored_text import Word as Word
