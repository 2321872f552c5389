"""The whole command on a small made-up tree: measured, interrupted, damaged, and with backbones that cannot be had."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from support import REPO

from benchmarks.harness.images import Images
from benchmarks.harness.setting import Setting
from benchmarks.paper.__main__ import main
from benchmarks.paper.alone import alone_in
from benchmarks.paper.cells import Cell
from benchmarks.paper.folders import Folders
from benchmarks.paper.made_up import wnids, write_tree
from benchmarks.paper.record import path_of, read_all, read_record, write_record
from benchmarks.paper.scores import score_images
from benchmarks.paper.wanted import Wanted
from lsn_core.backbones.backbone import Backbone
from lsn_core.training.loop import Progress, TrainingStopped

TINY = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2},
}
METHODS = "MCM,MSP,KNN,CoOp,CoOp + LSN,CoCoOp,CoCoOp + LSN,w/o positive prompts,neg-shared-w name,DualCoOp"
SHORT = ("--classes", "imagenet10", "--shots", "2", "--shorten", "2", "--cocoop-images", "3", "--device", "cpu")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve wnid folders, four OOD sets, and a small ViT CLIP with random weights."""
    folder = tmp_path_factory.mktemp("tree")
    write_tree(folder, wnids(12), 3, 2, 4)
    torch.manual_seed(0)
    (folder / "tiny").mkdir()
    model = open_clip.CLIP(**TINY)
    save_file(model.state_dict(), folder / "tiny" / "open_clip_model.safetensors")
    (folder / "tiny" / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY | {"quick_gelu": False}}))
    return folder


def arguments(tree: Path, out: Path, *more: str, methods: str = METHODS) -> list[str]:
    where = ["--imagenet", str(tree / "imagenet"), "--ood", str(tree / "ood"), "--out", str(out)]
    return [*where, *SHORT, "--methods", methods, "--all", *more]


def run(monkeypatch: pytest.MonkeyPatch, *given: str) -> None:
    monkeypatch.setattr(sys, "argv", ["paper", *given])
    main()


def tiny(tree: Path) -> str:
    return f"ViT-B/32=local-dir:{tree / 'tiny'}"


def test_two_backbones_are_measured_and_a_rerun_measures_what_is_damaged_alone(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments(tree, tmp_path, "--presets", "paper", "--seeds", "0,1", "--backbones", tiny(tree))
    run(monkeypatch, *given)
    records = {path: read_record(path) for path in sorted((tmp_path / "cells").glob("*.json"))}
    assert len(records) == 1 + 2 * 9
    for record in records.values():
        assert record is not None and record["status"] == "measured"
        assert set(record["metrics"]) == {"iNaturalist", "SUN", "Places", "Textures", "Average"}
        four = [row["auroc"] for name, row in record["metrics"].items() if name != "Average"]
        assert record["metrics"]["Average"]["auroc"] == pytest.approx(sum(four) / 4, abs=1e-3)
        assert record["sampled"] == record["settings"].get("method", "").startswith("cocoop")
        assert record["images"]["ID"] == (3 if record["sampled"] else 20)
        assert record["shorten"] == 2
        assert record["peak_gib"]["memory"] > 0.1
        assert record["versions"]["torch"] and record["backbone"]["weights_hash"]
    page = (tmp_path / "paper.md").read_text()
    assert "Not the paper's schedules" in page
    assert "| ViT-B/32, ImageNet-10, CoOp + LSN | paper † |" in page
    times = {path: path.stat().st_mtime_ns for path in records}
    # Not a word of another cell changes; the damaged one comes out the same, but for how long it took.
    broken = path_of(tmp_path, Cell("ViT-B/32", "ImageNet-10", "CoOp + LSN", "paper", 1))
    broken.write_text(broken.read_text()[:-100])
    run(monkeypatch, *given)
    assert {path for path in records if path.stat().st_mtime_ns != times[path]} == {broken}
    assert "19 of 19 cells are measured: " in capsys.readouterr().out
    again, before = read_record(broken), records[broken]
    assert again is not None and before is not None
    assert (again["metrics"], again["fingerprint"]) == (before["metrics"], before["fingerprint"])
    # Another schedule is another measurement; another backbone too.
    capsys.readouterr()
    embedded = arguments(tree, tmp_path, "--backbones", "embedded", "--seeds", "0", "--presets", "fast")
    run(monkeypatch, *embedded, "--plan", "--methods", "MCM,CoOp")
    assert "| embedded | ImageNet-10 | CoOp | fast | 1 | 4 |" in capsys.readouterr().out
    run(monkeypatch, *embedded, "--methods", "MCM,CoOp")
    assert len(read_all(tmp_path)) == len(records) + 2
    assert "| embedded, ImageNet-10, MCM | here |" in (tmp_path / "paper.md").read_text()


def test_a_run_that_is_killed_goes_on(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = arguments(tree, tmp_path, "--presets", "paper,fast", "--seeds", "0,1", "--backbones", tiny(tree))
    environment = os.environ | {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.paper", *given], cwd=REPO, env=environment)
    try:
        cells, deadline = tmp_path / "cells", time.monotonic() + 120
        while len(list(cells.glob("*.json"))) < 4:
            assert process.poll() is None and time.monotonic() < deadline, "it ended before it could be killed"
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = {path: path.stat().st_mtime_ns for path in cells.glob("*.json") if read_record(path)}
    assert 3 <= len(before) < 1 + 2 * 2 + 2 * 2 * 7
    run(monkeypatch, *given)
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    assert len(read_all(tmp_path)) == 1 + 2 * 2 + 2 * 2 * 7
    assert not list(cells.glob(".*")) or all(read_record(path) for path in cells.glob("*.json"))


def test_a_training_that_is_stopped_goes_on_at_its_step(tree: Path, tmp_path: Path, tiny_backbone: Backbone) -> None:
    config = Wanted(tmp_path, shorten=6, shots=2).config(Cell("ViT-B/16", "ImageNet-10", "CoCoOp", "paper", 0))
    steps: list[int] = []

    def stop_at(last: int):
        def seen(progress: Progress) -> bool:
            steps.append(progress.step)
            return progress.step == last

        return seen

    split = Folders(tree / "imagenet", tree / "ood").split("ImageNet-10")
    with pytest.raises(TrainingStopped):
        Setting(tiny_backbone, split, config, tmp_path / "a", callback=stop_at(8)).detector()
    resumed = Setting(tiny_backbone, split, config, tmp_path / "a", callback=stop_at(0)).detector()
    assert steps == [*range(1, 9), *range(9, 13)]
    at_once = Setting(tiny_backbone, split, config, tmp_path / "b").detector()
    assert torch.equal(resumed.negative, at_once.negative)


def test_a_scoring_that_is_stopped_goes_on_at_its_chunk(tree: Path, tmp_path: Path, tiny_backbone: Backbone) -> None:
    split = Folders(tree / "imagenet", tree / "ood").split("ImageNet-10")
    images = Images(tiny_backbone, split.id_test, tmp_path / "features")
    asked: list[int] = []

    def columns(some: Images) -> dict[str, torch.Tensor]:
        asked.append(len(some))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return {"sum": some.embedding.sum(dim=-1)}

    kept = tmp_path / "scores" / "ID"
    with pytest.raises(KeyboardInterrupt):
        score_images(columns, images, 6, kept)
    damaged = kept.with_name("ID-1.safetensors")
    damaged.write_bytes(damaged.read_bytes()[:-1])
    found = score_images(columns, images, 6, kept)
    assert asked == [6, 6, 6, 6, 6, 2]  # the first is kept, the second was damaged
    assert torch.equal(found["sum"], images.embedding.sum(dim=-1))


def test_weights_that_cannot_be_had_are_a_row_that_says_so(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbones = f"{tiny(tree)},BLIP=local-dir:{tmp_path / 'blip'}"
    with pytest.raises(SystemExit, match=r"1 cell could not be measured; .*paper.md says why"):
        run(monkeypatch, *arguments(tree, tmp_path, "--backbones", backbones, methods="MCM"))
    states = {record["cell"]["backbone"]: record["status"] for record in read_all(tmp_path)}
    assert states == {"ViT-B/32": "measured", "BLIP": "failed"}
    with pytest.raises(SystemExit, match="1 cell could not be measured"):  # now those of the other are gone
        run(monkeypatch, *arguments(tree, tmp_path, "--backbones", "ViT-B/32=local-dir:/no/such", methods="MCM"))
    assert {record["cell"]["backbone"]: record["status"] for record in read_all(tmp_path)} == states
    assert f"a backbone local-dir:{tmp_path / 'blip'}" in (tmp_path / "paper.md").read_text()


def test_an_interrupted_run_says_so_in_a_sentence_and_goes_on(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = arguments(tree, tmp_path, "--seeds", "0,1", "--backbones", tiny(tree), methods="MCM,CoOp,CoCoOp")
    environment = os.environ | {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.paper", *given], cwd=REPO, env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "cells").glob("*.json")):
            assert process.poll() is None and time.monotonic() < deadline, "it ended before it could be interrupted"
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "Interrupted: the same command goes on from here." and "Traceback" not in errors
    run(monkeypatch, *given)
    assert len(read_all(tmp_path)) == 1 + 2 * 2 * 3


def test_a_second_run_in_the_same_folder_is_refused(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = arguments(tree, tmp_path, "--backbones", tiny(tree), methods="MCM")
    with alone_in(tmp_path), pytest.raises(SystemExit, match="Another run is at work in"):
        run(monkeypatch, *given)
    run(monkeypatch, *given)
    assert len(read_all(tmp_path)) == 1


def test_a_full_disk_is_a_sentence_and_the_run_goes_on_later(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = arguments(
        tree, tmp_path, "--backbones", tiny(tree), "--seeds", "0", "--presets", "fast", methods="MCM,CoOp"
    )
    writes = []

    def full(out: Path, cell: Cell, values: object) -> None:
        writes.append(cell)
        if len(writes) > 1:
            raise OSError(errno.ENOSPC, "No space left on device", str(path_of(out, cell)))
        write_record(out, cell, values)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr("benchmarks.paper.run.write_record", full)
        with pytest.raises(SystemExit, match=r"CoOp.*\.json: no space is left.*goes on from here"):
            run(monkeypatch, *given)
    assert len(read_all(tmp_path)) == 1
    shutil.rmtree(tmp_path / "detectors")
    with monkeypatch.context() as patched:  # where a detector cannot be saved, the others are not trained for nothing

        def refuse(path: Path, *_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

        patched.setattr("lsn_core.detector.file.write_safetensors", refuse)
        with pytest.raises(SystemExit, match=r"safetensors: no space is left"):
            run(monkeypatch, *given)
    assert len(read_all(tmp_path)) == 1
    run(monkeypatch, *given)
    assert len(read_all(tmp_path)) == 2


def test_a_folder_that_cannot_be_written_is_said(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"file: (File exists|Not a directory)"):
        run(monkeypatch, *arguments(tree, tmp_path / "file", "--backbones", tiny(tree), methods="MCM"))


def test_damaged_images_fail_their_cells_and_no_others(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(tree, tmp_path / "copy"))
    damaged = sorted((copy / "imagenet" / "train").rglob("*.JPEG"))
    for path in damaged:
        path.write_bytes(path.read_bytes()[:200])
    backbone = ("--backbones", f"ViT-B/32=local-dir:{tree / 'tiny'}", "--seeds", "0", "--presets", "fast")
    given = arguments(copy, tmp_path / "run", *backbone, methods="MCM,CoOp")
    with pytest.raises(SystemExit, match="1 cell could not be measured"):
        run(monkeypatch, *given)
    states = {record["cell"]["method"]: record["status"] for record in read_all(tmp_path / "run")}
    assert states == {"MCM": "measured", "CoOp": "failed"}
    told = (tmp_path / "run" / "paper.md").read_text()
    assert f"20 of 20 training images of ImageNet-10 in {copy / 'imagenet' / 'train'} cannot be used." in told
    for path in damaged:
        shutil.copy(tree / path.relative_to(copy), path)
    run(monkeypatch, *given)
    assert {record["status"] for record in read_all(tmp_path / "run")} == {"measured"}


def test_one_image_of_each_kind_is_enough_and_fewer_than_the_paper_has_are_told_of(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_tree(tmp_path, wnids(10), 1, 1, 2)
    for path in (tmp_path / "ood").rglob("*_1.jpg"):
        path.unlink()
    given = arguments(tmp_path, tmp_path / "run", "--backbones", tiny(tree), "--seeds", "0", "--presets", "paper")
    run(monkeypatch, *given)
    assert len(read_all(tmp_path / "run")) == 10
    assert "Fewer training images than the 2 that are drawn: 10 of 10 classes of ImageNet-10" in caplog.text
    page = (tmp_path / "run" / "paper.md").read_text()
    assert "**Fewer labelled images** than the settings name: ImageNet-10 (10 instead of 20)." in page
    assert "ImageNet-10 10 instead of 500" in page and "SUN 1 instead of 10,000" in page


def test_the_cost_is_told_without_images_by_rates_that_ship_or_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--plan", "--classes", "ImageNet-10", "--backbones", "ViT-B/16", "--presets", "fast", "--seeds", "0")
    run(monkeypatch, *asked)
    told = capsys.readouterr().out
    assert "| ViT-B/16 | ImageNet-10 | CoCoOp | fast | 1 | 200 |" in told and "the published sizes" in told
    with pytest.raises(SystemExit, match=r"There is no .*rates.json\. Give --rates"):
        run(monkeypatch, *asked, "--rates", str(tmp_path / "rates.json"))
    (tmp_path / "rates.json").write_text("[]")
    with pytest.raises(SystemExit, match=r"rates.json holds no rates as a run writes them"):
        run(monkeypatch, *asked, "--rates", str(tmp_path / "rates.json"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--classes", "imagenet50"], "no classes 'imagenet50'"),
        (["--presets", "slow"], "No preset is called 'slow'"),
        (["--methods", "LSN"], "no method 'LSN'"),
        (["--ood", "/no/such"], "--ood: there is no folder"),
        (["--device", "abacus"], "abacus"),
        (["--plan", "--rates", "/no/such"], "--rates counts up the published sets"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_done(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], said: str
) -> None:
    with pytest.raises(SystemExit, match=said):
        run(monkeypatch, *arguments(tree, tmp_path), *given)
    assert not list(tmp_path.iterdir())
