"""An explanation in the terminal: the text itself, each word on its colour."""

from rich.text import Text

from explainer.explanation import Explanation
from explainer.rendering.colour import colour, strengths


def render(explanation: Explanation) -> Text:
    """The prediction, and the text with every scored word coloured (orange for the target, blue against it)."""
    target = explanation.target
    shown = Text(f"{explanation.target_label} ({explanation.probabilities[target]:.1%}) by {explanation.method}\n")
    words = explanation.words()
    shades = strengths([word.score for word in words])
    for segment, text in enumerate((explanation.text, explanation.text_pair)):
        if text is None:
            continue
        position = 0
        for word, shade in zip(words, shades, strict=True):
            if word.segment == segment:
                shown.append(text[position : word.start])
                red, green, blue = colour(shade)
                shown.append(text[word.start : word.end], style=f"black on rgb({red},{green},{blue})")
                position = word.end
        shown.append(text[position:] + "\n")
    return shown
