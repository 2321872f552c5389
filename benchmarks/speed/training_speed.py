"""Time of one training step: the literal way (77 tokens, one prompt set at a time) against this project's, same run.

Run from the repository root: python -m benchmarks.speed.training_speed [--classes 10 20 100] [--repeats 3] [--memory]
The ViT-B/16 text tower has random weights, which cost the same as trained ones. A step is one update's worth of losses
and gradients: one positive prompt (shared context) and K negative prompts (class-specific) for each class.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness.report import PAGE, RESULTS, markdown_table, replace_section
from lsn_core.backbones.backbone import Backbone
from lsn_core.backbones.frozen_blocks import FrozenLinear
from lsn_core.backbones.text_towers import CausalText
from lsn_core.losses import negative_loss, orthogonality, positive_loss
from lsn_core.prompts.encoder import TextTower
from lsn_core.prompts.learned import NameTokens, PromptSets
from lsn_core.training.loop import has_bf16
from lsn_core.training.presets import get_preset

ARCHITECTURE = "ViT-B-16"
DEFAULT_OUT = RESULTS / "training_speed"
SETS, LENGTH, BATCH = 3, 16, 8
# Made-up names of one to three words, as ImageNet's are; repeatable and free of any data set.
FIRST = ["red", "great white", "common", "sea", "mountain", "", "", "", "northern", "black and white"]
SECOND = ["fox", "shark", "lizard", "horse", "lamp", "snake", "bird", "chair", "truck", "flower", "coat", "ball"]


def class_names(count: int) -> list[str]:
    """Names with the lengths of real ones; the text tower does not mind that they recur after 60."""
    return [f"{FIRST[i % len(FIRST)]} {SECOND[i % len(SECOND)]}".strip() for i in range(count)]


class Case:
    """One training step's inputs for C classes, with the ways to take it."""

    def __init__(self, backbone: Backbone, classes: int, seed: int, memory_gib: float) -> None:
        generator = torch.Generator().manual_seed(seed)
        device = backbone.device
        self.backbone = backbone
        self.names = NameTokens.of(backbone, class_names(classes), LENGTH)
        self.tower = TextTower(backbone, self.names, memory_gib)
        self.positive = PromptSets(1, 1, LENGTH, backbone.width, generator).to(device)
        self.negative = PromptSets(SETS, classes, LENGTH, backbone.width, generator).to(device)
        self.x = F.normalize(torch.randn(BATCH, backbone.dim, generator=generator), dim=-1).to(device)
        self.y = torch.randint(classes, (BATCH,), generator=generator).to(device)
        self.half = False
        self.rounded = TextTower(backbone, self.names, memory_gib, precision="bf16")

    def losses(self, positive: Tensor | None, negative: Tensor | None) -> Tensor:
        """Sum of the losses of text features (1, C, D) and (K, C, D)."""
        total = torch.zeros((), device=self.x.device)
        if positive is not None:
            total = total + positive_loss(torch.einsum("nd,kcd->nkc", self.x, positive), self.y)
        if negative is not None:
            total = total + negative_loss(torch.einsum("nd,kcd->nkc", self.x, negative), self.y)
            total = total + 0.1 * orthogonality(negative)
        return total

    def literal_features(self, contexts: Tensor) -> Tensor:
        """(1, C or 1, L, W) -> (1, C, D) at full length, as CoOp's text encoder does it."""
        text, kind = self.backbone.text_tower, self.backbone.text
        assert isinstance(kind, CausalText)
        prompts, ends, _ = self.names.assemble(contexts)
        prompts = F.pad(prompts, (0, 0, 0, self.backbone.context_length - prompts.shape[1]))
        x = text.transformer(prompts + text.positional_embedding, attn_mask=text.attn_mask)
        return F.normalize(kind.project(x[torch.arange(len(x)), ends]), dim=-1)[None]

    def literal(self) -> None:
        """One positive pass and K negative passes, each set's graph run backward on its own, the others fixed."""
        self.losses(self.literal_features(self.positive.contexts), None).backward()
        for k in range(SETS):
            self.losses(None, self.literal_features(self.negative.contexts[k : k + 1])).backward()

    def batched(self) -> None:
        """All sets in one pass, cut at the last end token; nothing else."""
        for prompts, place in ((self.positive, 0), (self.negative, 1)):
            text = self.backbone.encode_prompts(*self.names.assemble(prompts.contexts))
            self._one_side(text.unflatten(0, (len(prompts.contexts), -1)), place)

    def ours(self) -> None:
        """As `lsn_core.training.loop` takes it."""
        self.ours_positive()
        self.ours_negative()

    def ours_positive(self) -> None:
        """A step of the positive prompts."""
        self._one_side(self._encode(self.positive), 0)

    def ours_negative(self) -> None:
        """A step of the negative prompts."""
        self._one_side(self._encode(self.negative), 1)

    def _encode(self, prompts: PromptSets) -> Tensor:
        return (self.rounded if self.half else self.tower).encode(prompts.contexts)

    def _one_side(self, text: Tensor, place: int) -> None:
        (self.losses(text, None) if place == 0 else self.losses(None, text)).backward()

    def timed(self, way: Callable[[], None]) -> float:
        """Seconds of one step."""
        self.positive.zero_grad(set_to_none=True)
        self.negative.zero_grad(set_to_none=True)
        _wait(self.x.device)
        begun = time.perf_counter()
        way()
        _wait(self.x.device)
        return time.perf_counter() - begun

    def flops(self) -> tuple[float, float]:
        """Floating-point operations of the linear layers, forward and backward: of the literal way, and of ours."""
        text = self.backbone.text_tower
        blocks, width, classes = len(text.transformer.resblocks), self.backbone.width, len(self.names)
        literal = 2.0 * (1 + SETS) * classes * self.backbone.context_length * blocks * position_flops(width)
        shared = step_flops(self.backbone, self.names, 1, LENGTH, shared=True)
        return literal, shared + step_flops(self.backbone, self.names, SETS, LENGTH, shared=False)


def position_flops(width: int) -> int:
    """Of one position in one block, forward: queries, keys and values 3, output 1, MLP 8 products of width x width."""
    return 2 * 12 * width * width


def step_flops(backbone: Backbone, names: NameTokens, sets: int, length: int, *, shared: bool) -> float:
    """Floating-point operations of the linear layers for S prompt sets of all classes, forward and backward.

    Args:
        sets: S; with CoCoOp each image of a batch has its own.
        length: of the context.
        shared: whether a set's context is shared by its classes, so that it is run once.
    """
    blocks, token = len(backbone.text_tower.transformer.resblocks), position_flops(backbone.width)
    context = 1 + length if shared else len(names) * length
    positions, ends = sets * (context + int(names.lengths.sum())), sets * len(names)
    forward = positions * (blocks - 1) * token + positions * token / 6 + ends * token * 10 / 12
    return 2.0 * forward  # the backward pass goes through activations only: weights are frozen


def schedules(row: dict[str, Any]) -> dict[str, float]:
    """Whole schedules at 128 shots, extrapolated from the time of one step of each kind (a step's time is that of the
    text tower, whatever the batch); nothing here is trained to the end."""
    found: dict[str, float] = {}
    for name, half in (("paper", ""), ("fast", ""), ("fast", "bf16_")):
        config = get_preset(name)
        images = round(row["classes"] * (config.shots or 0) * (1 - config.calibration_share))
        if f"ours_positive_{half}s" not in row:
            continue
        seconds = sum(
            (side.updates or side.epochs * side.batches(images)) * row[f"ours_{kind}_{half}s"]
            for kind, side in (("positive", config.positive), ("negative", config.negative))
        )
        # A score is chosen by learning the same again in two folds, on half of the classes each.
        found[f"{name}_{half}extrapolated_s"] = round((2 if config.choose_score else 1) * seconds)
        found[f"{name}_{half}ratio"] = round(found["paper_extrapolated_s"] / found[f"{name}_{half}extrapolated_s"], 1)
    del found["paper_ratio"]
    return found


def gemm_flops_per_second(device: torch.device, dtype: torch.dtype) -> float:
    """The speed that a matrix product of the tower's own shape reaches here and now; the floor is reckoned with it."""
    x, weight = (torch.randn(n, 512, device=device, dtype=dtype) for n in (1536, 2048))
    product = FrozenLinear(weight, None)
    best = float("inf")
    for _ in range(10):
        _wait(device)
        begun = time.perf_counter()
        product(x)
        _wait(device)
        best = min(best, time.perf_counter() - begun)
    return 2 * 1536 * 512 * 2048 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def random_backbone(architecture: str, seed: int, device: str = "cpu") -> Backbone:
    torch.manual_seed(seed)
    model = open_clip.create_model(architecture, pretrained=None)
    return Backbone(model, f"{architecture} (random weights)", open_clip.get_tokenizer(architecture), device)


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    backbone = random_backbone(ARCHITECTURE, arguments.seed, arguments.device)
    rows = []
    for classes in arguments.classes:
        case = Case(backbone, classes, arguments.seed, arguments.memory_gib)
        ways = {"literal": case.literal, "batched": case.batched, "ours": case.ours}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for name in ("ours", "batched"):
            case.timed(ways[name])  # warm up
        for _ in range(arguments.repeats):  # in turn, so that a busy moment hits all of them
            for name, way in ways.items():
                seconds[name].append(case.timed(way))
        median = {name: statistics.median(values) for name, values in seconds.items()}
        literal_flops, our_flops = case.flops()
        speed = gemm_flops_per_second(backbone.device, torch.float32)
        row = {
            "classes": classes,
            "sets": SETS,
            "mean_name_tokens": round(float(case.names.lengths.float().mean()), 2),
            **{f"{name}_s": round(value, 4) for name, value in median.items()},
            **{f"{name}_min_s": round(min(values), 4) for name, values in seconds.items()},
            "speedup": round(median["literal"] / median["ours"], 2),
            "speedup_of_min": round(min(seconds["literal"]) / min(seconds["ours"]), 2),
            "flops_ratio": round(literal_flops / our_flops, 2),
            "gflops_measured": round(speed / 1e9, 1),
            "floor_s": round(our_flops / speed, 4),
            "load_1min": round(os.getloadavg()[0], 2),
            "ours_positive_s": round(statistics.median(case.timed(case.ours_positive) for _ in range(3)), 4),
            "ours_negative_s": round(statistics.median(case.timed(case.ours_negative) for _ in range(3)), 4),
        }
        if has_bf16(backbone.device):
            case.half = True
            case.timed(case.ours)
            repeats = 20 if backbone.device.type == "cuda" else arguments.repeats
            for name, way in (("", case.ours), ("positive_", case.ours_positive), ("negative_", case.ours_negative)):
                row[f"ours_{name}bf16_s"] = round(statistics.median(case.timed(way) for _ in range(repeats)), 5)
            row["floor_bf16_s"] = round(our_flops / gemm_flops_per_second(backbone.device, torch.bfloat16), 5)
        row |= schedules(row)
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def one_large_step(arguments: argparse.Namespace) -> None:
    """Child process: one exact step, then its peak memory as JSON."""
    torch.set_num_threads(arguments.threads)
    backbone = random_backbone(ARCHITECTURE, arguments.seed)
    case = Case(backbone, arguments.large, arguments.seed, arguments.memory_gib)
    seconds = case.timed(case.ours)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # kibibytes on Linux
    print(
        json.dumps(
            {
                "classes": arguments.large,
                "sets": SETS,
                "step_s": round(seconds, 1),
                "peak_gib": round(peak, 2),
                "memory_gib_setting": arguments.memory_gib,
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="*", default=[10, 20, 100])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory-gib", type=float, default=3.0, help="what activations may take before chunking")
    parser.add_argument("--memory", action="store_true", help="also the peak memory of one step of --large classes")
    parser.add_argument("--large", type=int, default=1000)
    parser.add_argument(
        "--table-only", action="store_true", help="write results measured before anew, for the presets as they are now"
    )
    parser.add_argument("--large-step-only", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    arguments = parser.parse_args()
    if arguments.large_step_only:
        return one_large_step(arguments)
    if arguments.table_only:
        measured = json.loads(arguments.out.with_suffix(".json").read_text())
        measured["rows"] = [row | schedules(row) for row in measured["rows"]]  # the presets may have changed
        return write_report(measured, arguments.out)
    torch.set_num_threads(arguments.threads)
    rows = measure(arguments)
    report: dict[str, Any] = {
        "command": "python -m benchmarks.speed.training_speed " + " ".join(sys.argv[1:]),
        "architecture": f"{ARCHITECTURE} text tower, random weights",
        "context_length": LENGTH,
        "batch_size": BATCH,
        "seed": arguments.seed,
        "threads": arguments.threads,
        "device": torch.cuda.get_device_name() if arguments.device == "cuda" else _processor(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "open_clip": open_clip.__version__,
        },
        "rows": rows,
    }
    if arguments.memory:
        command = [sys.executable, "-m", "benchmarks.speed.training_speed", "--large-step-only"]
        for option in ("large", "memory_gib", "threads"):
            command += [f"--{option.replace('_', '-')}", getattr(arguments, option)]
        child = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
        report["memory"] = json.loads(child.stdout.splitlines()[-1])
        print(json.dumps(report["memory"]), flush=True)
    write_report(report, arguments.out)


def write_report(report: dict[str, Any], out: Path) -> None:
    """Writes JSON and CSV, and the figures that matter most into benchmarks/README.md."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    if report["rows"]:
        with open(out.with_suffix(".csv"), "w", newline="") as file:
            writer = csv.DictWriter(file, report["rows"][0].keys())
            writer.writeheader()
            writer.writerows(report["rows"])
    header = ["C", "literal s", "batched s", "ours s", "speed-up", "floor s", "ours in bf16 s", "its floor s"]
    header += ["`paper` h", "`fast` min", "`fast` in bf16 min", "`paper` / `fast`, in bf16"]
    cells = [
        [
            str(row["classes"]),
            f"{row['literal_s']:.2f}",
            f"{row['batched_s']:.2f}",
            f"{row['ours_s']:.2f}",
            f"{row['speedup']:.2f}",
            f"{row['floor_s']:.2f}",
            *([f"{row['ours_bf16_s']:.2f}", f"{row['floor_bf16_s']:.2f}"] if "ours_bf16_s" in row else ["", ""]),
            f"{row['paper_extrapolated_s'] / 3600:.1f}",
            f"{row['fast_extrapolated_s'] / 60:.1f}",
            f"{row['fast_bf16_extrapolated_s'] / 60:.1f}" if "fast_bf16_ratio" in row else "",
            f"{row['fast_ratio']:.0f}" + (f", {row['fast_bf16_ratio']:.0f}" if "fast_bf16_ratio" in row else ""),
        ]
        for row in report["rows"]
    ]
    shown = markdown_table(header, cells)
    if "memory" in report:
        memory = report["memory"]
        shown += (
            f"\n\nPeak memory of a process that does one step at C = {memory['classes']:,}, K = {memory['sets']}: "
            f"{memory['peak_gib']} GiB (chunks of classes keep activations below {memory['memory_gib_setting']} GiB)."
        )
    if out.resolve() == DEFAULT_OUT:  # results kept elsewhere are not the page's
        replace_section(PAGE, "training-speed", shown)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
