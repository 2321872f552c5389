"""What many photos cost on rented machines: machines, hours and money, on paper, from rates that were measured.

    python -m benchmarks.speed.cost [--cpu-hour 0.045] [--gb-month 0.023] [--thousand-requests 0.0004] [--machines 100]

Prints the tables of docs/many-machines.md from benchmarks/results/throughput.json and scale.json.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks.harness.report import RESULTS, markdown_table

PHOTOS = (10**6, 10**9)
COMPILED = "JPEG files to verdicts, compiled"
VIT_B_16 = 35.1e9
"""Operations of ViT-B/16's image tower on a picture: twice the 17.58 billion multiply-adds that torchvision states."""


@dataclass(frozen=True)
class Prices:
    """What is assumed of rented machines and of storage, in US dollars.

    Attributes:
        cpu_hour: one virtual CPU of a compute-optimised machine for an hour: 0.045, about half the list price of an
            AWS c7i.large (2 of them, 0.0893 in us-east-1).
        gb_month: 10^9 bytes kept for a month: 0.023, the list price of Amazon S3 Standard.
        thousand_requests: 1,000 reads of an object: 0.0004, the list price of S3's GET.
        photo_bytes: of a photo.
        machine_cpus: virtual CPUs of one machine.
        machines: how many work at once on the larger number of photos.
    """

    cpu_hour: float = 0.045
    gb_month: float = 0.023
    thousand_requests: float = 0.0004
    photo_bytes: int = 100_000
    machine_cpus: int = 16
    machines: int = 100


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for one in fields(Prices):
        parser.add_argument(f"--{one.name.replace('_', '-')}", type=type(one.default), default=one.default)
    prices = Prices(**vars(parser.parse_args()))
    print(cost_section(load(RESULTS), prices))


def load(folder: Path) -> list[dict[str, Any]]:
    """What the tables are made from: throughput, and scale with its features and classes; none where one is missing."""
    paths = [folder / f"{name}.json" for name in ("throughput", "scale")]
    if not all(path.is_file() for path in paths):
        return []
    throughput, scale = (json.loads(path.read_text()) for path in paths)
    found = {"cores": throughput["cores"], "throughput": throughput["rows"][0], "scale": scale["rows"][0]}
    return [found] if {"features", "classes"} <= found["scale"].keys() else []


def cost_section(found: list[dict[str, Any]], prices: Prices = Prices()) -> str:
    """Hours and money by number of photos and backbone, and what lists of classes ask of one process."""
    (results,) = found
    measured = results["throughput"]
    rates = results["scale"]["features"]["images_per_second"]
    base = rates["one process, without Ray"]
    share = min(1.0, next(rate for name, rate in rates.items() if name.startswith("Ray, 2 workers")) / base)
    embedded = measured["images_per_second"][COMPILED] / results["cores"] * share
    operations = measured["floor_images_per_second"] * measured["flops_per_image"]
    backbones = {
        "embedded, measured": embedded,
        "ViT-B/16 at the speed of PyTorch's matrix product": operations / VIT_B_16 / results["cores"] * share,
    }
    lines = [_line(name, rate, photos, prices) for photos in PHOTOS for name, rate in backbones.items()]
    header = [
        "photos",
        "backbone",
        "photos/s a CPU",
        "CPU hours",
        "machines",
        "hours",
        "computing",
        "reading",
        "storage",
    ]
    return (
        f"{markdown_table(header, lines)}\n\nAssumed: {100 * share:.0f} % of one process's rate with Ray, as measured; "
        f"machines of {prices.machine_cpus} CPUs at ${prices.cpu_hour:g} a CPU and hour; photos of "
        f"{prices.photo_bytes // 1000} KB at ${prices.gb_month:g} a GB and month, and ${prices.thousand_requests:g} "
        "for 1,000 reads of single photos (a thousandth of it where they lie in Parquet files of 1,000). "
        "`python -m benchmarks.speed.cost --help` has these as options.\n\n" + _classes(results, embedded, prices)
    )


def _line(name: str, rate: float, photos: int, prices: Prices) -> list[str]:
    hours = photos / rate / 3600
    machines = 1 if photos < PHOTOS[-1] else prices.machines
    computing = hours * prices.cpu_hour
    reading = photos / 1000 * prices.thousand_requests
    storage = photos * prices.photo_bytes / 1e9 * prices.gb_month
    shown = [f"{hours:,.1f}", str(machines), f"{hours / machines / prices.machine_cpus:,.1f}"]
    return [_power(photos), name, f"{rate:.1f}", *shown, *map(_money, (computing, reading, storage))]


def _classes(results: dict[str, Any], embedded: float, prices: Prices) -> str:
    found = results["scale"]["classes"]
    lines = []
    for count, (without, _) in found["verdicts_per_second"].items():
        prompts = int(count) * (1 + found["sets"])
        encoding = prompts / found["texts_per_second"] / 3600
        lines.append(
            [
                f"{int(count):,}",
                f"{3600 * encoding:,.0f} s",
                f"{without:,.0f}",
                f"{without / embedded:,.0f}",
                *(f"{photos / without / 3600:,.1f}" for photos in PHOTOS),
            ]
        )
    hours = [f"hours for {_power(photos)} verdicts" for photos in PHOTOS]
    return markdown_table(["classes", "encoding prompts, once", "verdicts/s", "keeps up with CPUs", *hours], lines)


def _power(photos: int) -> str:
    return f"10^{len(str(photos)) - 1}"


def _money(dollars: float) -> str:
    return f"${dollars:,.2f}" if dollars < 100 else f"${dollars:,.0f}"


if __name__ == "__main__":
    main()
