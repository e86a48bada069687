"""One colour scale for every rendering: blue against, white at exactly zero, orange for; safe for the colour-blind."""

from collections.abc import Sequence

# Blue and orange of Okabe and Ito (2008).
AGAINST, NEUTRAL, FOR = (0, 114, 178), (255, 255, 255), (230, 159, 0)


def strengths(scores: Sequence[float]) -> list[float]:
    """Scores over the largest magnitude: in [-1, 1], zero stays zero."""
    largest = max((abs(score) for score in scores), default=0.0)
    return [score / largest if largest > 0 else 0.0 for score in scores]


def colour(strength: float) -> tuple[int, int, int]:
    """RGB of a strength in [-1, 1].

    >>> colour(0.0)
    (255, 255, 255)
    """
    end = FOR if strength > 0 else AGAINST
    mix = [round(white + abs(strength) * (edge - white)) for white, edge in zip(NEUTRAL, end, strict=True)]
    return mix[0], mix[1], mix[2]
