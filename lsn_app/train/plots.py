"""The curves of loss and accuracy over the steps of training."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lsn_app.shared.plots import finish
from lsn_app.shared.theme import KNOWN, UNKNOWN
from lsn_core.jobs import Point


def training_curves(points: Sequence[Point], total: int, done: bool = False) -> go.Figure:
    """Loss and accuracy of the training batches over the steps, positive prompts and then negative ones.

    Args:
        points: metrics over time, by step.
        total: steps in all, those on parts of the classes included, which choose the score and are not drawn.
        done: whether there will be no other steps; then the axis ends with the last that is drawn.
    """
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.12)
    for phase, colour in (("positive", KNOWN), ("negative", UNKNOWN)):
        chosen = [point for point in points if point.phase == phase]
        for row, values in ((1, [point.loss for point in chosen]), (2, [point.accuracy for point in chosen])):
            figure.add_scatter(
                x=[point.step for point in chosen],
                y=values,
                mode="lines",
                name=f"{phase} prompts",
                legendgroup=phase,
                showlegend=row == 1 and bool(chosen),
                line={"color": colour, "width": 2, "dash": "solid" if phase == "positive" else "dot"},
                hovertemplate=f"step %{{x}}<br>{'loss %{y:.4f}' if row == 1 else 'accuracy %{y:.1%}'}<extra></extra>",
                row=row,
                col=1,
            )
    drawn = [point.step for point in points if point.phase in ("positive", "negative")]
    figure.update_xaxes(range=[0, max(drawn if done and drawn else (total, 1))])
    figure.update_xaxes(title="training step", row=2, col=1)
    figure.update_yaxes(title="loss", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title="accuracy", range=[-0.03, 1.03], tickformat=".0%", row=2, col=1)
    figure.update_layout(showlegend=True)
    return finish(figure, 380, top_margin=34)
