"""The demo of language models: a conversation in, the response and the scores of the prompt's sources out."""

from typing import get_args

from explainer.attributor import ResponseAttributor, ResponseInput, ResponseOptions
from explainer.demo.base import AbstractDemo
from explainer.demo.conversation import messages_of, rows
from explainer.demo.elements import button, checkbox, further, line, select, textarea
from explainer.demo.fields import Fields
from explainer.explained import ExplainedResponse
from explainer.explained.sources import SourceLevel
from explainer.explanation import ResponseExplanation
from explainer.rendering.html import escaped
from explainer.rendering.response_html import response_fragment, response_live

LEVELS: tuple[str, ...] = get_args(SourceLevel)
LEVEL = "sentence"
"""What is scored as one, unless another level is chosen."""


class ResponseDemo(AbstractDemo[ResponseAttributor]):
    """The demo of a `ResponseAttributor`."""

    question = "Which part of the prompt made the model answer this?"

    @property
    def buttons(self) -> str:
        return button("Add a message", "add") if self._chats else ""

    # The form

    def form(self, fields: Fields) -> str:
        return "".join(
            [
                self._prompt(fields),
                self._response(fields),
                self.beside(fields),
                select("sources", "Scores per", [(level, level) for level in LEVELS], fields.one("sources", LEVEL)),
                checkbox("trust", "Measure trust", fields.is_checked("trust", at_first=True)),
                checkbox("pick", "Pick parts of the response by a click (explains each token)", self._picks(fields)),
            ]
        )

    def _prompt(self, fields: Fields) -> str:
        limit = self.limits.characters
        if self._chats:
            return rows(fields, limit)
        hint = "A text that the model continues."
        return textarea("prompt", "Prompt", fields.one("prompt"), rows=6, limit=limit, hint=hint, more="autofocus")

    def _response(self, fields: Fields) -> str:
        """The response, and which part of it is explained; a conversation that goes on has none yet."""
        goes_on, limit = fields.one("action") == "continue", self.limits.characters
        response, span, foil = ("" if goes_on else fields.one(name) for name in ("response", "span", "foil"))
        given = textarea("response", "Response", response, rows=2, limit=limit, hint="Empty: the model answers.")
        part = line("span", "Explain", span, limit=limit, hint="A part of the response that occurs once; empty: all.")
        other = line("foil", "Rather than", foil, limit=limit, hint="Another whole response.") if self.contrasts else ""
        return further("a given response, a part of it", given + part + other, bool(response + span + foil))

    def _picks(self, fields: Fields) -> bool:
        return fields.is_checked("pick")

    @property
    def _chats(self) -> bool:
        return bool(self.attributor.explained.tokenizer.chat_template)

    # The answer

    def answer(self, fields: Fields) -> str:
        if fields.one("action") in ("add", "continue"):
            return ""
        level = fields.choice("sources", LEVELS, LEVEL)
        item = self._input(fields)
        labels = self.chosen(fields)
        options = ResponseOptions(sources=level, generate={"max_new_tokens": self.limits.new_tokens})  # type: ignore[arg-type]
        asked = self.attributor.ask(item, options)
        first = self._explained(self.attributor.method.label, self.attributor, asked, fields)
        shown = [response_fragment(first.view(), style=False)]
        if self._picks(fields):
            shown = [response_live(first.view(matrix=first.matrix(self.limits.passes)))]
        for label in labels:
            shown.append(
                response_fragment(self._explained(label, self.others[label], asked, fields).view(), style=False)
            )
        return f'<h2>Response</h2><div class="beside">{"".join(shown)}</div>{self._goes_on(asked)}'

    def _input(self, fields: Fields) -> ResponseInput:
        prompt = messages_of(fields) if self._chats else fields.one("prompt")
        response, span, foil = (fields.one(name) or None for name in ("response", "span", "foil"))
        typed = [prompt] if isinstance(prompt, str) else [message["content"] for message in prompt]
        self.limits.check_characters(*typed, response or "", foil or "")
        if not any(one.strip() for one in typed):
            raise ValueError("The prompt is empty: type what the model is to answer.")
        return ResponseInput.of(prompt, response=response, span=span, foil=foil)

    def _explained(
        self, label: str, attributor: ResponseAttributor, asked: ExplainedResponse, fields: Fields
    ) -> ResponseExplanation:
        self.limits.check_passes(label, attributor.passes(asked))
        level = fields.one("sources", LEVEL)
        (explanation,) = attributor.explain([asked], trust=fields.is_checked("trust"), level=level)  # type: ignore[arg-type]
        return explanation

    def _goes_on(self, asked: ExplainedResponse) -> str:
        """The way to the next message of a conversation."""
        if not self._chats:
            return ""
        said = f'<input type="hidden" form="ask" name="said" value="{escaped(asked.response)}">'
        return f'<p class="actions">{said}{button("Continue the conversation", "continue", form="ask")}</p>'
