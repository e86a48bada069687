"""Scored texts in notebooks, terminals, pages and figures. Rendering draws texts and numbers, never a model."""

from explainer.rendering.views import View as View
from explainer.rendering.views import side_by_side as side_by_side
from explainer.rendering.views import view as view
