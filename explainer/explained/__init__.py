"""The model being explained: frozen, padding-safe, unchanged after use."""

from explainer.explained.attention import edit_attention as edit_attention
from explainer.explained.attention import edit_attention_maps as edit_attention_maps
from explainer.explained.base import AbstractExplained as AbstractExplained
from explainer.explained.batch import EncodedText as EncodedText
from explainer.explained.batch import TokenBatch as TokenBatch
from explainer.explained.batch import Tokens as Tokens
from explainer.explained.image import ExplainedImageModel as ExplainedImageModel
from explainer.explained.image import ImageBatch as ImageBatch
from explainer.explained.model import ExplainedModel as ExplainedModel
