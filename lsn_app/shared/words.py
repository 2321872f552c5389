"""What the app says: class lists read, verdicts and error rates put into words and HTML."""

from __future__ import annotations

from html import escape

from lsn_core.backbones.loading import EMBEDDED, EMBEDDED_NOTE


def percent(rate: float) -> str:
    """0.95 -> '95 %'."""
    return f"{rate * 100:.3g} %"


def problem(sentence: str) -> str:
    """A user's mistake as HTML, to be shown by the input it belongs to."""
    return f'<p class="lsn-problem" role="alert"><span aria-hidden="true">⚠</span> {escape(sentence)}</p>'


def note(sentence: str) -> str:
    """A remark as HTML."""
    return f'<p class="lsn-note">{escape(sentence)}</p>'


def backbone_note(name: str) -> str:
    """What has to be said of a backbone wherever it is offered; empty for most."""
    return note(EMBEDDED_NOTE) if name == EMBEDDED else ""


def _card(kind: str, icon: str, title: str, sentences: list[str], mark: str = "") -> str:
    body = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    return (
        f'<section class="lsn-card lsn-{kind}" role="status" aria-live="polite">'
        f'<span class="lsn-icon" aria-hidden="true">{icon}</span>'
        f"<div><h2>{escape(title)} {mark}</h2>{body}</div></section>"
    )
