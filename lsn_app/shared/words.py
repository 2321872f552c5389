"""What the app says: class lists read, verdicts and error rates put into words and HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from lsn_core.backbones.loading import EMBEDDED, EMBEDDED_NOTE
from lsn_core.suggested import suggestion

_NOTHING = 0.05  # points: what is written as 0.0


def percent(rate: float) -> str:
    """0.95 -> '95 %'."""
    return f"{rate * 100:.3g} %"


def problem(sentence: str) -> str:
    """A user's mistake as HTML, to be shown by the input it belongs to."""
    return f'<p class="lsn-problem" role="alert"><span aria-hidden="true">⚠</span> {escape(sentence)}</p>'


def comparison(lead: Sequence[float] | None) -> tuple[str, str, str]:
    """How a detector does beside hand-written MCM, in words, with the kind of card and the icon that go with it.

    Args:
        lead: its AUROC less MCM's, and the lower and upper end of that lead's interval where there is one, in [-1, 1];
            None where they were not compared.
    """
    if not lead:
        return "empty", "●", "Not compared with hand-written MCM"
    score, *ends = (100 * value for value in lead)
    interval = f" ({points(ends[0])} to {points(ends[1])})" if ends else ""
    if all(abs(value) < _NOTHING for value in (score, *ends)):
        return "empty", "≈", f"No difference to hand-written MCM: 0.0 points of AUROC{interval}"
    if score <= -_NOTHING:
        return "unknown", "!", f"Worse than hand-written MCM by {-score:.1f} points of AUROC{interval}"
    if ends and ends[0] > 0:
        return "known", "✓", f"Better than hand-written MCM by {score:.1f} points of AUROC{interval}"
    return "empty", "≈", f"No clear difference to hand-written MCM: {points(score)} points of AUROC{interval}"


def points(value: float) -> str:
    """-1.23 -> '−1.2': a difference with its sign; 0.0 has none."""
    return "0.0" if abs(value) < _NOTHING else f"{value:+.1f}".replace("-", "−")


def note(sentence: str) -> str:
    """A remark as HTML."""
    return f'<p class="lsn-note">{escape(sentence)}</p>'


def backbone_note(name: str) -> str:
    """What has to be said of a backbone wherever it is offered; empty for most."""
    if name == EMBEDDED:
        return note(EMBEDDED_NOTE)
    if (one := suggestion(name)) is None:
        return ""
    extra = f" It needs pip install 'lsn-core[{one.needs}]'." if one.needs else ""
    return note(
        f"{one.good_for} {one.parameters / 1e6:,.0f} million parameters, photos of {one.image_size} pixels, about "
        f"{one.memory_gib:.1f} GiB of memory ({one.source}). Its weights are downloaded on first use; their licence: "
        f"{one.terms}.{extra}"
    )


def _card(kind: str, icon: str, title: str, sentences: list[str], mark: str = "") -> str:
    body = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    return (
        f'<section class="lsn-card lsn-{kind}" role="status" aria-live="polite">'
        f'<span class="lsn-icon" aria-hidden="true">{icon}</span>'
        f"<div><h2>{escape(title)} {mark}</h2>{body}</div></section>"
    )


def signed(value: float, among: Sequence[float] = ()) -> str:
    """0.1234 -> '+0.12', -12.3 -> '−12': two significant digits.

    Args:
        among: values that stand beside it; all have as many decimals, so that they add up: two, or as many as
            the largest takes.
    """
    largest = max((abs(other) for other in (*among, value)), default=0.0)
    digits = max(0, 1 - math.floor(math.log10(largest))) if largest else 0
    if among and largest < 100:
        digits = max(digits, 2)
    return f"{value:+.{min(digits, 9)}f}".replace("-", "−")
