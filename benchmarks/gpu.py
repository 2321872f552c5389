"""Everything that a GPU is asked for, measured in one run of less than ten minutes, and one table.

    python -m benchmarks.gpu                           # on a CUDA GPU: writes results/gpu.{json,md}
    python -m benchmarks.gpu --parts parity heat_maps  # these alone, put into the report that is there
    python -m benchmarks.gpu --device cpu --small      # the same at a small size, to see that it runs

- parity: features of pictures and texts, and gradients of a step, in fp32 and bf16, against fp32 on the CPU.
- steps: one training step of a positive prompt and K = 3 negative ones for 100 and 1,000 classes, ViT-B/16 text tower
  with random weights: the literal way (77 tokens, one set at a time), this project's as plain launches, and captured as
  a CUDA graph, as `train` runs it. The floor is its matrix products' operations at the speed of one measured here.
- runs: whole trainings with preset `fast`, C = 100 at 128 shots and C = 1,000 at 64, on made-up features.
- images: pictures a second of ViT-B/16 from memory, against the bare tower on a resident batch.
- heat_maps: milliseconds for a positive and three negative prompts, the view included.
- compiled: a step through torch.compile, when asked for; compiling takes minutes.
- tests: the library's tests with their backbones on the GPU (`pytest --device cuda`).

Peak memory is that of PyTorch's allocator. Weights are random where no others can be had: they cost the same.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from benchmarks.gpu_tables import table
from benchmarks.harness.report import RESULTS, environment, write_results
from benchmarks.speed.training_speed import Case, class_names, random_backbone
from lsn_core import Backbone, Detector, UserError, get_preset, load_backbone, train
from lsn_core.backbones.image_tower import view_image
from lsn_core.data.feature_stream import FeatureStream, Unopened
from lsn_core.data.images import open_image
from lsn_core.heatmaps.maps import heat_maps
from lsn_core.heatmaps.methods import fitting_methods
from lsn_core.heatmaps.targets import ImagePrompts, prompt_targets
from lsn_core.shipped import examples
from lsn_core.training.captured import CapturedStep
from lsn_core.training.presets import with_updates

Row = dict[str, Any]
REPO = Path(__file__).resolve().parents[1]


@contextmanager
def peak(device: torch.device, found: Row) -> Iterator[None]:
    """Puts the most memory of what is done inside into `peak_gib`."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    yield
    if device.type == "cuda":
        found["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)


def seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median time of some work, after two rounds that warm up."""
    times = []
    for round_ in range(repeats + 2):
        _wait(device)
        begun = time.perf_counter()
        work()
        _wait(device)
        if round_ >= 2:
            times.append(time.perf_counter() - begun)
    return statistics.median(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def ceilings(device: torch.device) -> Row:
    """Speeds of a matrix product of the tower's own shape, in TFLOP/s; large enough to fill a GPU."""
    rows = 65536 if device.type == "cuda" else 1536
    found = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        x, w = (torch.randn(n, 512, device=device, dtype=dtype) for n in (rows, 2048))
        found[name] = 2 * rows * 512 * 2048 / seconds(partial(torch.matmul, x, w.T), device, 20) / 1e12
    return found


# -- parity ------------------------------------------------------------------------------------------------------------


def parity(device: torch.device) -> list[Row]:
    """The device against fp32 on the CPU, embedded checkpoint and example photos; and bf16 against fp32."""
    here, there = load_backbone("embedded", "cpu"), load_backbone("embedded", str(device))
    pictures = [open_image(path) for path in examples().values()]
    texts = [f"a photo of a {name}" for name in class_names(60)]
    wanted = here.encode_images(pictures), here.encode_texts(texts)
    rows = [
        {"what": name, "against": "fp32 on the CPU", "largest_difference": float((found - want).abs().max())}
        for name, found, want in zip(
            ("features of pictures, fp32", "features of texts, fp32"),
            (there.encode_images(pictures), there.encode_texts(texts)),
            wanted,
            strict=True,
        )
    ]
    if device.type == "cuda":
        there.runtime.use_bf16()
        cosine = float((there.encode_images(pictures) * wanted[0]).sum(-1).min())
        rows.append({"what": "features of pictures, bf16", "against": "fp32 on the CPU", "least_cosine": cosine})
    cpu, gpu = Case(here, 20, 0, 3.0), Case(load_backbone("embedded", str(device)), 20, 0, 3.0)
    wanted_gradient = _gradient(cpu, half=False)
    for precision in ("fp32", "bf16"):
        found = _gradient(gpu, half=precision == "bf16")
        relative = float((found - wanted_gradient).norm() / wanted_gradient.norm())
        rows.append({"what": f"gradients of a step, {precision}", "against": "fp32 on the CPU", "relative": relative})
    return rows


def _gradient(case: Case, half: bool) -> Tensor:
    case.half = half
    case.timed(case.ours)
    parts = [case.positive.contexts.grad, case.negative.contexts.grad]
    return torch.cat([part.flatten().cpu() for part in parts if part is not None])


# -- training ----------------------------------------------------------------------------------------------------------


def steps(backbone: Backbone, classes: int, repeats: int, memory_gib: float, speeds: Row) -> list[Row]:
    """Ways to take one step, with the floor of each precision."""
    case, device = Case(backbone, classes, 0, memory_gib), backbone.device
    literal_flops, flops = case.flops()
    rows = []

    def measure(way: str, precision: str, work: Callable[[], object], operations: float = flops) -> None:
        row: Row = {"classes": classes, "way": way, "precision": precision}
        try:
            with peak(device, row):
                row["step_s"] = seconds(work, device, repeats)
        except torch.OutOfMemoryError:
            row["step_s"] = None
        row["floor_s"] = operations / (speeds[precision] * 1e12)
        rows.append(row)
        print(row, flush=True)

    def cleared(work: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            case.positive.zero_grad(set_to_none=True)
            case.negative.zero_grad(set_to_none=True)
            work()

        return run

    measure("literal: 77 tokens, set by set", "fp32", cleared(case.literal), literal_flops)
    for precision in ("fp32", "bf16"):
        case.half = precision == "bf16"
        measure("this project's, plain launches", precision, cleared(case.ours))
        if device.type != "cuda":
            continue

        def run(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            case.x, case.y = x, y
            case.ours()
            return x.sum(), x.sum()

        inputs = case.x, case.y
        taken: Row = {}
        with peak(device, taken):  # replays allocate nothing more
            captured = CapturedStep(run, [case.positive.contexts, case.negative.contexts], *inputs)
        measure("this project's, captured", precision, partial(captured, *inputs))
        rows[-1] |= taken
        del captured
    return rows


def compiled_step(backbone: Backbone, classes: int, repeats: int, memory_gib: float, speeds: Row) -> Row:
    """The same step through torch.compile, and how long compiling takes."""
    case, device = Case(backbone, classes, 0, memory_gib), backbone.device
    case.half = True
    begun = time.perf_counter()
    case.rounded.encode = torch.compile(case.rounded.encode)  # type: ignore[method-assign]
    case.timed(case.ours)
    compiling = time.perf_counter() - begun
    row: Row = {"classes": classes, "way": "this project's, torch.compile", "precision": "bf16"}
    with peak(device, row):
        row["step_s"] = statistics.median(case.timed(case.ours) for _ in range(repeats))
    return row | {"floor_s": case.flops()[1] / (speeds["bf16"] * 1e12), "compile_s": compiling}


def runs(backbone: Backbone, sizes: list[tuple[int, int]], memory_gib: float, updates: int | None) -> list[Row]:
    """Whole trainings: seconds from features to a calibrated detector; `updates` None is the preset's number."""
    rows = []
    for classes, shots in sizes:
        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(classes).repeat_interleave(shots)
        middles = torch.randn(classes, backbone.dim, generator=generator)
        noise = torch.randn(len(labels), backbone.dim, generator=generator)
        features = F.normalize(middles[labels] + 2 * noise, dim=-1)
        for precision in ("fp32", "bf16") if classes < 1000 else ("bf16",):
            config = replace(get_preset("fast", shots=shots), precision=precision, memory_gib=memory_gib)
            if updates is not None:
                config = with_updates(config, updates)
            row: Row = {"classes": classes, "shots": shots, "precision": precision}
            with peak(backbone.device, row):
                begun = time.perf_counter()
                names = [f"{name} {i}" for i, name in enumerate(class_names(classes))]
                detector = train(features, labels, names, backbone, config)
                row["seconds"] = time.perf_counter() - begun
            row["accuracy"] = detector.metrics["calibration_accuracy"]
            rows.append(row)
            print(row, flush=True)
    return rows


# -- pictures ----------------------------------------------------------------------------------------------------------


def images(backbone: Backbone, count: int, batch: int) -> list[Row]:
    """Pictures a second: the bare tower on a batch that stays on the device, and crops from memory to features."""
    device, rows = backbone.device, []
    size = backbone.crop(Image.new("RGB", (300, 300))).shape
    generator = torch.Generator().manual_seed(0)
    crops = torch.randint(0, 256, (batch, *size), dtype=torch.uint8, generator=generator)
    pixels = backbone._preprocessing.normalise(crops.to(device))
    rounds = max(1, count // batch)
    for precision in ("fp32", "bf16") if device.type == "cuda" else ("fp32",):
        if precision == "bf16":
            backbone.runtime.use_bf16()
        with torch.no_grad():
            row: Row = {"precision": precision, "batch": batch}
            with peak(device, row):
                bare = seconds(lambda: [backbone._encode_pixels(pixels) for _ in range(rounds)], device, 3) / rounds
            row["bare_tower"] = batch / bare
            pictures = [Image.fromarray(crop.numpy()) for crop in crops]
            source = [Unopened(picture) for picture in pictures] * rounds
            row["from_memory"] = batch / (seconds(partial(_stream, backbone, crops, source), device, 3) / rounds)
        row["share"] = row["from_memory"] / row["bare_tower"]
        rows.append(row)
        print(row, flush=True)
    return rows


def _stream(backbone: Backbone, crops: Tensor, source: list[Unopened]) -> None:
    for _ in FeatureStream(_Ready(backbone, crops), batch_size=len(crops)).run(source, len(source)):
        pass


class _Ready:
    """A backbone whose crops are made already, so that threads that decode are not what is measured."""

    def __init__(self, backbone: Backbone, crops: Tensor) -> None:
        self._backbone, self._crops = backbone, crops
        self.dim, self.fingerprint, self.passes = backbone.dim, backbone.fingerprint, backbone.passes
        self.encode_crops, self.encode_images = backbone.encode_crops, backbone.encode_images

    def expect(self, images: int) -> None:
        """Nothing is compiled."""

    def crop(self, image: Image.Image) -> Tensor:
        """The first crop, whatever the picture."""
        return self._crops[0]


def heat_map_times(backbone: Backbone, repeats: int) -> list[Row]:
    """Milliseconds of each method that fits the tower."""
    detector = Detector.zero_shot(backbone, ["dog", "cat", "horse"])
    picture, device = open_image(examples()["dog"]), backbone.device

    def once(method: str) -> None:
        view = view_image(backbone, picture)
        heat_maps(view, prompt_targets(ImagePrompts.of(detector, view)), method, detector.positive)

    rows = []
    for method in fitting_methods(view_image(backbone, picture)):
        row: Row = {"method": method}
        with peak(device, row):
            row["ms"] = 1000 * seconds(partial(once, method), device, repeats)
        rows.append(row)
    return rows


# -- the whole ---------------------------------------------------------------------------------------------------------


def tests(device: str, folders: list[str], processes: int) -> Row:
    """The library's tests with their backbones on the device."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--device", device, *folders]
    if processes > 1:
        command += ["-n", str(processes)]
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    print("\n".join(lines[-60:]), flush=True)
    return {
        "summary": lines[-1].strip("= ") if lines else done.stderr[-300:],
        "failed": failed,
        "seconds": time.perf_counter() - begun,
    }


PARTS = ("parity", "heat_maps", "steps", "runs", "images", "compiled", "tests")
"""In the order of being measured: what is short comes first, so that a run that is ended from outside has most rows."""


def main() -> None:
    """Measures part after part, and writes the report after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="a small size, for a CPU")
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=[part for part in PARTS if part != "compiled"],
        help="measure these alone, and keep the others of the report that is there",
    )
    parser.add_argument("--tests", nargs="+", default=["tests/lsn_core"], help="folders of tests")
    parser.add_argument("--processes", type=int, default=8, help="processes of tests")
    parser.add_argument("--memory-gib", type=float, default=40.0, help="what activations may take before chunking")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA GPU here; --device cpu --small runs everything at a small size")
    device, small = torch.device(options.device), options.small
    report: Row = {"command": "python -m benchmarks.gpu " + " ".join(sys.argv[1:]), **environment(0)}
    try:
        report = kept(options.out, report, options.parts)
    except UserError as error:
        parser.error(str(error))
    report["tflops"] = speeds = ceilings(device)
    backbone = random_backbone("ViT-B-32" if small else "ViT-B-16", 0, options.device)
    trained, updates = (load_backbone("embedded", options.device), 2) if small else (backbone, None)
    measures: dict[str, Callable[[], object]] = {
        "parity": lambda: parity(device),
        "heat_maps": lambda: heat_map_times(backbone, 1 if small else 10),
        "steps": lambda: [
            row
            for classes, repeats in (((4, 1),) if small else ((100, 10), (1000, 3)))
            for row in steps(backbone, classes, repeats, options.memory_gib, speeds)
        ],
        "runs": lambda: runs(trained, [(3, 4)] if small else [(100, 128), (1000, 64)], options.memory_gib, updates),
        "images": lambda: images(backbone, 16 if small else 8192, 8 if small else 256),
        "compiled": lambda: compiled_step(backbone, 4 if small else 100, 5, options.memory_gib, speeds),
        "tests": lambda: tests(options.device, options.tests, options.processes),
    }
    for part in (part for part in PARTS if part in options.parts):
        report[part] = measures[part]()
        write_report(report, options.out)
    print(table(report))


def kept(folder: Path, report: Row, parts: Sequence[str]) -> Row:
    """The report with the parts of the one in a folder that are not measured now.

    Raises:
        UserError: that was made on another GPU or by other libraries.
    """
    others = [part for part in PARTS if part not in parts]
    before = folder / "gpu.json"
    if set(others) <= {"compiled"} or not before.is_file():
        return report
    found = json.loads(before.read_text())
    for key in ("gpu", "versions"):
        if found[key] != report[key]:
            raise UserError(
                f"{before} was made with {found[key]}, and this is {report[key]}. Measure all parts, or choose another "
                "--out."
            )
    commands = f"{found['command']}; {report['command']}"
    return report | {part: found[part] for part in others if part in found} | {"command": commands}


def write_report(report: Row, folder: Path) -> None:
    """gpu.json and gpu.md."""
    write_results("gpu", report, folder)
    (folder / "gpu.md").write_text(table(report))


if __name__ == "__main__":
    main()
