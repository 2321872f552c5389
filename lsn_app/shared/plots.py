"""Plotly figures of a verdict, as pure functions of numbers and names."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from lsn_app.shared.theme import NEUTRAL

_GRID = "rgba(128,128,128,0.28)"
_LONGEST_NAME = 22
_BAR_HEIGHT = 30


def plain(name: str) -> str:
    # Plotly reads a few HTML tags, links among them, in its texts, and class names come from visitors.
    return name.replace("&", "&amp;").replace("<", "&lt;")


def _finish_bars(figure: go.Figure, names: Sequence[str], rows_each: float, title: str) -> go.Figure:
    short = [name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…" for name in names]
    figure.update_xaxes(range=[0, 1.14], tickvals=[0, 0.25, 0.5, 0.75, 1], tickformat=".0%", title=title)
    # Places, not names, carry the bars: two long names may be cut to the same letters.
    figure.update_yaxes(
        range=[len(names) - 0.5, -0.5],
        tickvals=list(range(len(names))),
        ticktext=[plain(name) for name in short],
        showgrid=False,
    )
    height = int(90 + _BAR_HEIGHT * len(names) * rows_each)
    return finish(figure, height, top_margin=34 if figure.layout.showlegend else 8)


_AXIS = {
    "gridcolor": _GRID,
    "zeroline": False,
    "automargin": True,
    "title": {"standoff": 8, "font": {"size": 13}},
    "fixedrange": True,
}
# What all figures share, checked once by Plotly rather than in every answer. Transparent, so that the page's own light
# or dark shows; the page's css colours the text.
_TEMPLATE = go.layout.Template(
    layout={
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": NEUTRAL, "size": 13, "family": "system-ui, sans-serif"},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "showlegend": False,
        "dragmode": False,
        "modebar": {"remove": ["zoom", "pan", "select", "lasso", "zoomIn", "zoomOut", "autoScale", "resetScale"]},
        "bargap": 0.3,
        "xaxis": _AXIS,
        "yaxis": _AXIS,
    }
)


def finish(figure: go.Figure, height: int, top_margin: int) -> go.Figure:
    """Gives a figure the style of them all, and its height in pixels."""
    return figure.update_layout(template=_TEMPLATE, height=height, margin={"l": 12, "r": 12, "t": top_margin, "b": 48})
