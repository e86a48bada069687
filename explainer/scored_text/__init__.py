"""A text with a score per token: what methods give, what is drawn. It knows no model, no target and no method."""

from explainer.scored_text.scored_text import Aggregation as Aggregation
from explainer.scored_text.scored_text import Caption as Caption
from explainer.scored_text.scored_text import ScoredText as ScoredText
from explainer.scored_text.scored_text import Word as Word
from explainer.scored_text.scored_text import check_aggregation as check_aggregation
from explainer.scored_text.units import UnitLevel as UnitLevel
from explainer.scored_text.units import Units as Units
from explainer.scored_text.units import unit_numbers as unit_numbers
from explainer.scored_text.units import visible_span as visible_span
from explainer.scored_text.words import word_numbers as word_numbers
