"""The colour scale of all renderings: blue against, the paper at zero, orange for; safe for the colour-blind."""

from collections.abc import Sequence

RGB = tuple[int, int, int]

# Blue and orange of Okabe and Ito (2008).
AGAINST, NEUTRAL, FOR = (0, 114, 178), (255, 255, 255), (230, 159, 0)
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def strengths(scores: Sequence[float], largest: float | None = None) -> list[float]:
    """Scores over `largest` (by default the largest magnitude among them): in [-1, 1], zero stays zero."""
    full = max((abs(score) for score in scores), default=0.0) if largest is None else largest
    return [max(-1.0, min(1.0, score / full)) if full > 0 else 0.0 for score in scores]


def colour(strength: float, paper: RGB = NEUTRAL) -> RGB:
    """RGB of a strength in [-1, 1] on paper of any colour.

    >>> colour(0.0)
    (255, 255, 255)
    """
    end = FOR if strength > 0 else AGAINST
    mix = [round(ground + abs(strength) * (edge - ground)) for ground, edge in zip(paper, end, strict=True)]
    return mix[0], mix[1], mix[2]


def ink_on(background: RGB) -> RGB:
    """Black or white, by contrast: at least 4.58 on any background."""
    return max((BLACK, WHITE), key=lambda shown: contrast(shown, background))


def contrast(one: RGB, other: RGB) -> float:
    """WCAG 2: the contrast ratio of two colours, 1 to 21; AA asks for 4.5 of text."""
    deep, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (deep + 0.05)


def luminance(rgb: RGB) -> float:
    """WCAG 2: relative luminance of an sRGB colour, 0 to 1."""
    parts = [part / 255 for part in rgb]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
