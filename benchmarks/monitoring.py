"""How often the alarm of `lsn watch` is false, and after how many photos it finds a change.

    python -m benchmarks.monitoring --data DIR

False alarms are counted on made-up scores, which may be as many as one likes. Changes are real photos: the shipped
detector of Imagenette watches its test photos in random order, and after some of them a share is from another set.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.options import add_options, data_folder, open_bench, show_progress
from benchmarks.harness.protocols import far_sets, find_test
from benchmarks.harness.report import environment, markdown_table, write_results
from lsn_core import Detector, UserError, extract_features, load_data
from lsn_core.calibration import Calibration
from lsn_core.monitoring.evidence import Evidence
from lsn_core.shipped import DETECTORS_DIR

SIZES, LENGTH, STREAMS = (19, 100, 1000), 10_000, 200
ALPHAS = (0.1, 0.01)
BEFORE, DRAWS = 250, 50
SHARES = (0.0, 0.1, 0.2, 0.5, 1.0)
Scores = NDArray[np.float64]


def main() -> None:
    """Writes benchmarks/results/monitoring.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    options = parser.parse_args()
    show_progress()
    begun = time.process_time()
    try:
        data, bench = data_folder(options), open_bench(options)
        detector = Detector.load(DETECTORS_DIR / "imagenette.safetensors", bench.backbone)
        sets = {"known": load_data(find_test(data / "imagenette")), **far_sets(data)}
        scores = {
            name: detector.score_features(extract_features(detector.backbone, images, progress=True).features)
            .double()
            .numpy()
            for name, images in sets.items()
        }
    except UserError as error:
        sys.exit(str(error))
    assert detector.calibration is not None
    results = {
        "title": "The alarm of `lsn watch`",
        "command": f"python -m benchmarks.monitoring {bench.arguments}",
        **environment(0),
        "rows": [row for size in SIZES for row in false_alarms(size)],
        "changes": changes(detector.calibration, scores),
    }
    write_results("monitoring", results | {"seconds": round(time.process_time() - begun, 1)}, options.out)


def false_alarms(size: int) -> list[dict[str, Any]]:
    """The share of streams in which nothing changes and the alarm rings, and that of bets on the verdicts' p-values."""
    highest = []
    for seed in range(STREAMS):
        chance = np.random.default_rng(seed)
        calibration, stream = Calibration(chance.normal(size=size)), chance.normal(size=LENGTH)
        evidence = Evidence(calibration.scores.tolist(), seed)
        ours = max(evidence.add(score) for score in stream.tolist())
        highest.append((ours, bet(calibration.p_values(stream))))
    return [
        {
            "calibration_photos": size,
            "alpha": alpha,
            "share": float(np.mean([ours >= 1 / alpha for ours, _ in highest])),
            "share_p_values": float(np.mean([other >= 1 / alpha for _, other in highest])),
            "streams": STREAMS,
            "photos": LENGTH,
        }
        for alpha in ALPHAS
    ]


def bet(places: Scores) -> float:
    """The most that the same bet has on these p-values."""
    waiting, placed, most = 1.0, np.zeros(3), 1.0
    for n, u in enumerate(places.tolist(), 1):
        placed = np.minimum((placed + waiting / (n + 1) / 3) * np.array([1.5 - u, 0.5 / u**0.5, 0.5 + u]), 1e300)
        waiting *= n / (n + 1)
        most = max(most, waiting + float(placed.sum()))
    return most


def changes(calibration: Calibration, scores: Mapping[str, Scores]) -> list[dict[str, Any]]:
    """For each set and share, in how many draws the alarm rings before and after the change, and how long after."""
    rows = []
    for name, unknown in scores.items():
        for share in SHARES:
            if (name == "known") != (share == 0.0):
                continue
            found = [_draw(calibration, scores["known"], unknown, share, seed) for seed in range(DRAWS)]
            after = [photos - BEFORE for photos in found if photos is not None and photos > BEFORE]
            rows.append(
                {
                    "set": name,
                    "share": share,
                    "before": sum(photos is not None and photos <= BEFORE for photos in found),
                    "after": len(after),
                    "median": float(np.median(after)) if after else None,
                    "draws": DRAWS,
                }
            )
    return rows


def _draw(calibration: Calibration, known: Scores, unknown: Scores, share: float, seed: int) -> int | None:
    """The photo, from 1, that raises the alarm at 0.01; None where there is none until photos run out."""
    chance = np.random.default_rng(seed)
    known, unknown = chance.permutation(known), chance.permutation(unknown)
    evidence, used = Evidence(calibration.scores.tolist(), seed), [0, 0]
    for n in range(len(known)):
        kind = int(n >= BEFORE and chance.random() < share)
        source = (known, unknown)[kind]
        if used[kind] == len(source):
            return None
        if evidence.add(float(source[used[kind]])) >= 100:
            return n + 1
        used[kind] += 1
    return None


def monitoring_section(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table of false alarms."""
    lines = [
        [str(row["calibration_photos"]), f"{row['alpha']:g}", f"{row['share']:.1%}", f"{row['share_p_values']:.1%}"]
        for row in rows
    ]
    head = ("calibration photos", "stated chance", "rang", "would ring, betting on the verdicts' p-values")
    return markdown_table(head, lines)


def changes_section(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table of changes that are found: a line for each set, a column for each share."""
    found = {(row["set"], row["share"]): row for row in rows}
    shares = [share for share in SHARES if share]
    lines = [
        [name, *(_cell(found[name, share]) for share in shares)]
        for name in dict.fromkeys(name for name, share in found if share)
    ]
    calm = found["known", 0.0]
    table = markdown_table(("photos from", *(f"{share:.0%}" for share in shares)), lines)
    return f"{table}\n\nWhere nothing changes it rings in {calm['before'] + calm['after']} of {calm['draws']}."


def _cell(row: Mapping[str, Any]) -> str:
    return f"{row['after']}" + ("" if row["median"] is None else f", after {row['median']:.0f}")


if __name__ == "__main__":
    main()
