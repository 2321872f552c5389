"""One HTML file with the curves of what came in; it needs no network and no other file."""

from __future__ import annotations

import html
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lsn_core.atomic import check_writable, write_bytes
from lsn_core.errors import UserError
from lsn_core.monitoring.windows import BINS, Window

if TYPE_CHECKING:
    import plotly.graph_objects as go

_RELOAD = 60  # seconds
_BLUE, _RED = "#3b6fb6", "#c0392b"


def check_page(path: Path) -> None:
    """Whether a page can be written there; a UserError where it cannot."""
    try:
        import plotly  # noqa: F401
    except ImportError as error:
        raise UserError("--page needs the package plotly. Install it: pip install plotly.") from error
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"{path}: the page is HTML. Give --page a name that ends in .html.")
    check_writable(path)


def write_page(
    path: Path, windows: Sequence[Window], level: float, alarm: datetime | None, title: str, live: bool
) -> None:
    """Replaces the page, whole or not at all.

    Args:
        level: of the evidence, from which on there is an alarm.
        alarm: when it was raised.
        title: what is watched.
        live: whether the page loads itself anew each minute.
    """
    curves = figure(windows, level).to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False})
    reload = f'<meta http-equiv="refresh" content="{_RELOAD}">' if live else ""
    text = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">{reload}
<title>{html.escape(title)}</title>
<style>body {{ font: 16px system-ui, sans-serif; margin: 1.5rem auto; max-width: 70rem; padding: 0 1rem; color: #222 }}
h1 {{ font-size: 1.3rem }} .alarm {{ color: {_RED}; font-weight: 600 }}</style></head>
<body><h1>{html.escape(title)}</h1>
<p{' class="alarm"' if alarm else ""}>{html.escape(verdict(windows, level, alarm))}</p>
{curves}
</body></html>
"""
    write_bytes(path, text.encode())


def verdict(windows: Sequence[Window], level: float, alarm: datetime | None) -> str:
    """In words: how many photos came, and whether they are like the reference."""
    photos = sum(window.photos for window in windows)
    unknown = sum(window.unknown for window in windows)
    share = f", {unknown / photos:.1%} unknown" if photos else ""
    if alarm is None:
        state = f"No alarm: the evidence that something changed has not reached {level:g}."
    else:
        state = (
            f"ALARM at {alarm:%Y-%m-%d %H:%M}: new photos are not like the reference. While they are, this happens "
            f"with a chance of at most {1 / level:.2g}, however long one watches."
        )
    return f"{photos} photos{share}. {state}"


def figure(windows: Sequence[Window], level: float) -> go.Figure:
    """The share of unknown photos, the tenths of p-values and the evidence, one below the other, over time."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    titles = (
        "Share of unknown photos",
        "p-values of verdicts: each tenth has about 10 % of the photos while the world is as it was",
        f"Evidence of a change (alarm at {level:g})",
    )
    curves = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.09, subplot_titles=titles)
    times = [window.start for window in windows]
    line = {"color": _BLUE}
    counts = [f"{window.unknown} of {window.photos} photos" for window in windows]
    shares = [window.share_unknown for window in windows]
    curves.add_trace(go.Scatter(x=times, y=shares, text=counts, mode="lines+markers", line=line, name="unknown"), 1, 1)
    tenths = [[w.p_values[i] / w.photos if w.photos else None for w in windows] for i in range(BINS)]
    centres = [(i + 0.5) / BINS for i in range(BINS)]
    curves.add_trace(
        go.Heatmap(
            x=times,
            y=centres,
            z=tenths,
            zmin=0,
            zmax=0.4,
            colorscale="Blues",
            name="p-values",
            colorbar={"title": "share", "tickformat": ".0%", "len": 0.3, "y": 0.5},
        ),
        2,
        1,
    )
    evidence = [window.highest or window.evidence for window in windows]
    curves.add_trace(go.Scatter(x=times, y=evidence, mode="lines+markers", line=line, name="evidence"), 3, 1)
    curves.add_hline(y=level, line={"color": _RED, "dash": "dash"}, row=3, col=1)
    curves.update_yaxes(tickformat=".0%", rangemode="tozero", row=1, col=1)
    curves.update_yaxes(title="p-value", range=[0, 1], row=2, col=1)
    curves.update_yaxes(type="log", exponentformat="power", row=3, col=1)
    curves.update_layout(
        height=820, showlegend=False, margin={"l": 60, "r": 20, "t": 40, "b": 40}, template="plotly_white"
    )
    return curves
