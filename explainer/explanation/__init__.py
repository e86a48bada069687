"""Explanations: of one text, of one image, and of one response of a language model."""

from explainer.explanation.image import ImageExplanation as ImageExplanation
from explainer.explanation.response import ResponseExplanation as ResponseExplanation
from explainer.explanation.response import ResponseMatrix as ResponseMatrix
from explainer.explanation.response import ResponseTrust as ResponseTrust
from explainer.explanation.response import ScoredSource as ScoredSource
from explainer.explanation.response import SourceScores as SourceScores
from explainer.explanation.text import Explanation as Explanation
from explainer.explanation.text import Trust as Trust
from explainer.explanation.text import number as number
from explainer.explanation.text import percent as percent
