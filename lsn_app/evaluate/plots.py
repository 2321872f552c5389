"""Figures of an evaluation: how scores of known and of other photos lie, and ROC curves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lsn_app.shared.plots import finish, plain
from lsn_app.shared.theme import KNOWN, NEGATIVES, NEUTRAL, UNKNOWN
from lsn_core.metrics import Scores, roc_curve

_ROW_HEIGHT = 270
_MOST_POINTS = 500
_STYLES = ((KNOWN, "solid"), (UNKNOWN, "dash"), (NEGATIVES[1], "dot"))


def score_histograms(
    known: Scores, others: Mapping[str, Scores], lines: Mapping[str, float], score_label: str
) -> go.Figure:
    """Shares of known and of other photos by score; a row for each OOD set, all on one scale.

    Args:
        known: scores of the ID images.
        others: name of an OOD set -> scores.
        lines: what a threshold is called -> its score.
        score_label: name of the score.
    """
    id_scores = np.asarray(known, dtype=np.float64)
    both = np.concatenate([id_scores, *(np.asarray(scores, dtype=np.float64) for scores in others.values())])
    smallest = min(id_scores.size, *(len(scores) for scores in others.values()))
    bins = int(np.clip(round(2 * np.sqrt(smallest)), 16, 40))
    edges = np.histogram_bin_edges(both, bins=bins)
    figure = _rows(others)
    for row, scores in enumerate(others.values(), start=1):
        for name, values, colour, shape in (
            ("known photos", id_scores, KNOWN, ""),
            ("other photos", np.asarray(scores, dtype=np.float64), UNKNOWN, "/"),
        ):
            counts = np.histogram(values, bins=edges)[0]
            figure.add_bar(
                x=(edges[:-1] + edges[1:]) / 2,
                y=counts / values.size,
                width=np.diff(edges),
                name=name,
                legendgroup=name,
                showlegend=row == 1,
                opacity=0.8,
                marker={"color": colour, "pattern": {"shape": shape, "solidity": 0.35}},
                customdata=counts,
                hovertemplate=f"%{{customdata}} of {values.size:,} {name}<br>score about %{{x:.4f}}<extra></extra>",
                row=row,
                col=1,
            )
        for (name, score), dash in zip(lines.items(), ("dash", "dot"), strict=False):
            figure.add_scatter(
                x=[score, score],
                y=[0, 1],
                yaxis=f"y{row if row > 1 else ''}",
                mode="lines",
                name=name,
                legendgroup=name,
                showlegend=row == 1,
                line={"color": NEUTRAL, "dash": dash, "width": 2},
                hovertemplate=f"{plain(name)}: %{{x:.4f}}<extra></extra>",
                row=row,
                col=1,
            )
        top = max(np.histogram(values, bins=edges)[0].max() / len(values) for values in (id_scores, scores))
        figure.update_yaxes(title="share of photos", tickformat=".0%", range=[0, top * 1.1], row=row, col=1)
    figure.update_xaxes(range=[edges[0], edges[-1]])
    figure.update_xaxes(title=f"{score_label}: further right looks more known", row=len(others), col=1)
    figure.update_layout(barmode="overlay", showlegend=True)
    return _finish(figure, len(others))


def roc_curves(known: Mapping[str, Scores], others: Mapping[str, Mapping[str, Scores]]) -> go.Figure:
    """A row for each OOD set with the ROC curve of each method.

    Args:
        known: method -> scores of the ID images.
        others: name of an OOD set -> method -> scores.
    """
    figure = _rows(others)
    for row, scores in enumerate(others.values(), start=1):
        figure.add_scatter(
            x=[0, 1],
            y=[0, 1],
            mode="lines",
            name="chance",
            legendgroup="chance",
            showlegend=row == 1,
            line={"color": NEUTRAL, "width": 1},
            hoverinfo="skip",
            row=row,
            col=1,
        )
        for (method, id_scores), (colour, dash) in zip(known.items(), _STYLES, strict=False):
            fpr, tpr, thresholds = roc_curve(id_scores, scores[method])
            points = _thinned(len(fpr))
            figure.add_scatter(
                x=fpr[points],
                y=tpr[points],
                mode="lines",
                name=method,
                legendgroup=method,
                showlegend=row == 1,
                line={"color": colour, "width": 2.5, "dash": dash},
                customdata=thresholds[points],
                hovertemplate=f"{method}<br>keeps %{{y:.1%}} of known photos<br>lets %{{x:.1%}} of the others pass<br>"
                "at a score of %{customdata:.4f}<extra></extra>",
                row=row,
                col=1,
            )
        figure.update_yaxes(title="known photos kept", tickformat=".0%", range=[-0.02, 1.02], row=row, col=1)
    figure.update_xaxes(range=[-0.02, 1.02], tickformat=".0%")
    figure.update_xaxes(title="other photos that pass as known", row=len(others), col=1)
    figure.update_layout(showlegend=True)
    return _finish(figure, len(others))


def _rows(others: Mapping[str, object]) -> go.Figure:
    titles = [plain(name) for name in others] if len(others) > 1 else None
    gap = 0.25 / len(others) if len(others) > 1 else 0
    return make_subplots(rows=len(others), cols=1, subplot_titles=titles, vertical_spacing=gap)


def _thinned(points: int) -> np.ndarray:
    return np.unique(np.linspace(0, points - 1, min(points, _MOST_POINTS)).round().astype(int))


def _finish(figure: go.Figure, rows: int) -> go.Figure:
    height = 110 + _ROW_HEIGHT * rows
    finish(figure, height, top_margin=62)
    # Below a fixed distance from the top, whatever the height.
    figure.update_layout(bargap=0, legend={"y": 1 + 26 / (height - 110), "font": {"size": 12}})
    return figure
