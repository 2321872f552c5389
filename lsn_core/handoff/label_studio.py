"""Tasks with predictions for Label Studio (https://labelstud.io/guide/predictions), and the labelling page they fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from lsn_core.handoff.verdict import KNOWN, UNKNOWN, Origin, Verdict

LOCAL_FILES = "/data/local-files/?d="
_MENU = 20  # more classes than that are a menu instead of a list


def tasks(verdicts: Sequence[Verdict], origin: Origin) -> list[dict[str, Any]]:
    """One task a photo: its verdict and, where it is known, its class are chosen already.

    The p-value is the prediction's score, in (0, 1], so that sorting by it brings what is least known to the top;
    without a calibration there is none, as Label Studio takes no score below 0. The nearest class of an unknown photo
    is among the data and is not chosen.
    """
    return [_task(verdict, origin) for verdict in verdicts]


def _task(verdict: Verdict, origin: Origin) -> dict[str, Any]:
    numbers = {"score": verdict.score, "threshold": verdict.threshold, "p_value": verdict.p_value}
    data: dict[str, Any] = {
        "image": address(verdict, origin),
        "file": origin.inside(verdict),
        "verdict": verdict.label,
        "nearest_class": verdict.predicted_class,
        **{name: value for name, value in numbers.items() if value is not None},
    }
    chosen = {"verdict": verdict.label} | ({"class": verdict.predicted_class} if verdict.known else {})
    prediction: dict[str, Any] = {
        "model_version": origin.model,
        "result": [
            {"id": name, "from_name": name, "to_name": "image", "type": "choices", "value": {"choices": [choice]}}
            for name, choice in chosen.items()
        ],
    }
    if verdict.p_value is not None:
        prediction["score"] = verdict.p_value
    return {"data": data, "predictions": [prediction]}


def address(verdict: Verdict, origin: Origin) -> str:
    """Where Label Studio finds the photo: below the prefix, or else in its local files, of which the document root is
    the folder above that of the photos."""
    inside = origin.inside(verdict)
    if origin.prefix is None:
        return LOCAL_FILES + quote("/".join(filter(None, (origin.folder.name, inside))))
    # Names of a bucket's objects are taken as they are, those of a web server are not.
    return origin.prefix + (quote(inside) if origin.prefix.startswith(("http://", "https://", "/")) else inside)


def labelling_config(class_names: Sequence[str]) -> str:
    """The project's labelling interface, XML: known or unknown, and which class where it is known."""
    layout = 'layout="select"' if len(class_names) > _MENU else 'showInline="true"'
    choices = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in class_names)
    return f"""<View>
  <Header value="$file" size="5"/>
  <Choices name="verdict" toName="image" choice="single-radio" showInline="true" required="true">
    <Choice value="{KNOWN}"/>
    <Choice value="{UNKNOWN}"/>
  </Choices>
  <Choices name="class" toName="image" choice="single-radio" {layout} required="true"
           visibleWhen="choice-selected" whenTagName="verdict" whenChoiceValue="{KNOWN}">
{choices}
  </Choices>
  <Image name="image" value="$image" zoom="true"/>
</View>
"""
