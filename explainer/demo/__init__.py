"""The demo: one page in which a text or a conversation is typed, predicted and explained, and the server of it."""

from explainer.demo.base import AbstractDemo as AbstractDemo
from explainer.demo.base import Limits as Limits
from explainer.demo.desk import Desk as Desk
from explainer.demo.responses import ResponseDemo as ResponseDemo
from explainer.demo.server import DemoServer as DemoServer
from explainer.demo.texts import TextDemo as TextDemo
