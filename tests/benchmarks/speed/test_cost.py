"""What many photos cost, against hours and dollars worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.speed.cost import COMPILED, VIT_B_16, Prices, cost_section, load

RATES = {"one process, without Ray": 200.0, "Ray, 1 worker of 2 CPUs": 180.0, "Ray, 2 workers of 1 CPUs": 160.0}
FOUND = {
    "cores": 2,
    "throughput": {
        "images_per_second": {COMPILED: 250.0},
        "floor_images_per_second": 351.0,
        "flops_per_image": 1e9,
    },
    "scale": {
        "features": {"images_per_second": RATES},
        "classes": {"sets": 3, "texts_per_second": 1000.0, "verdicts_per_second": {"1000": [500.0, 100.0]}},
    },
}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_hours_and_money_are_photos_by_rates_by_prices() -> None:
    lines = cost_section([FOUND], Prices(cpu_hour=0.05, machine_cpus=10, machines=20)).splitlines()
    # 250 a second on 2 CPUs, of which 160 / 200 are left with Ray: 100 a second and CPU.
    assert cells(lines[2]) == ["10^6", "embedded, measured", "100.0", "2.8", "1", "0.3", "$0.14", "$0.40", "$2.30"]
    assert cells(lines[4])[:6] == ["10^9", "embedded, measured", "100.0", "2,777.8", "20", "13.9"]
    assert cells(lines[4])[6:] == ["$139", "$400", "$2,300"]
    assert float(cells(lines[3])[2]) == pytest.approx(351e9 / VIT_B_16 / 2 * 0.8)
    # 4,000 prompts at 1,000 a second; 500 verdicts a second keep up with 5 such CPUs.
    assert cells(lines[-1]) == ["1,000", "4 s", "500", "5", "0.6", "555.6"]


def test_nothing_is_said_of_what_was_not_measured(tmp_path: Path) -> None:
    assert load(tmp_path) == []
    (tmp_path / "throughput.json").write_text(json.dumps({"cores": 2, "rows": [FOUND["throughput"]]}))
    (tmp_path / "scale.json").write_text(json.dumps({"rows": [{"classes": {}}]}))
    assert load(tmp_path) == []
    (tmp_path / "scale.json").write_text(json.dumps({"rows": [FOUND["scale"]]}))
    assert load(tmp_path) == [FOUND]
