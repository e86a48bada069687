"""The model being explained: frozen, padding-safe, unchanged after use. Edits a model inside a `with` block only."""

from explainer.explained.attention import check_one_per_layer as check_one_per_layer
from explainer.explained.attention import edit_attention as edit_attention
from explainer.explained.attention import edit_attention_weights as edit_attention_weights
from explainer.explained.attributions import Attributions as Attributions
from explainer.explained.base import AbstractExplained as AbstractExplained
from explainer.explained.batch import EncodedText as EncodedText
from explainer.explained.batch import TokenBatch as TokenBatch
from explainer.explained.batch import Tokens as Tokens
from explainer.explained.image import ExplainedImageModel as ExplainedImageModel
from explainer.explained.image import ImageBatch as ImageBatch
from explainer.explained.model import ExplainedModel as ExplainedModel
from explainer.explained.readout import PREDICTED as PREDICTED
from explainer.explained.readout import RUNNER_UP as RUNNER_UP
from explainer.explained.readout import Readout as Readout
from explainer.explained.readout import Target as Target
from explainer.explained.readout import TargetValues as TargetValues
from explainer.explained.responses import ExplainedResponse as ExplainedResponse
from explainer.explained.responses import Source as Source
from explainer.explained.responses import explain_response as explain_response
from explainer.explained.responses import responses_target as responses_target
from explainer.explained.responses import sources_of as sources_of
from explainer.explained.tasks import AbstractTask as AbstractTask
from explainer.explained.tasks import ImageClassification as ImageClassification
from explainer.explained.tasks import PromptedClassification as PromptedClassification
from explainer.explained.tasks import Response as Response
from explainer.explained.tasks import TextClassification as TextClassification
