"""Scored texts in notebooks, terminals, pages and figures. Rendering draws texts and numbers, never a model."""

from explainer.rendering.response_layout import Message as Message
from explainer.rendering.response_layout import Stretch as Stretch
from explainer.rendering.response_layout import TokenTable as TokenTable
from explainer.rendering.response_view import ResponseView as ResponseView
from explainer.rendering.views import View as View
from explainer.rendering.views import side_by_side as side_by_side
from explainer.rendering.views import view as view
