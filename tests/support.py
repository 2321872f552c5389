"""What several test files share and is no fixture."""

from __future__ import annotations

import io
import multiprocessing
import os
import runpy
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from typer.testing import CliRunner

from lsn_core.backbones.backbone import Backbone
from lsn_core.cli.app import build
from lsn_core.data.images import open_image
from lsn_core.prompts.nouns import _features as noun_cache
from lsn_core.prompts.nouns import nouns as noun_list
from lsn_core.training.config import TrainConfig

if TYPE_CHECKING:
    from playwright.sync_api import Page

WNIDS = ("n02123597", "n02389026", "n03095699")  # of ImageNet-10
REPO = Path(__file__).resolve().parent.parent
_PATIENCE = 250.0

# Starting Python and importing torch and open_clip takes five seconds of CPU time: one process does that, and commands
# are forked from it. It has run nothing yet, so that what is forked is as good as new.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(
    ["lsn_core.detector.detector", "lsn_core.training.loop", "lsn_core.cli.probe", "lsn_core.cli.heatmap"]
)


def fewer_updates(config: TrainConfig, positive: int, negative: int) -> TrainConfig:
    """The same config with so many updates of positive and of negative prompts."""
    return replace(
        config,
        positive=replace(config.positive, updates=positive),
        negative=replace(config.negative, updates=negative),
    )


def run_command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command line as its users run it: a process of its own, its output and its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        process = _PROCESSES.Process(target=_command, args=(Path(folder), [*map(str, arguments)]))
        process.start()
        process.join(_PATIENCE)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"{arguments} took more than {_PATIENCE:.0f} s")
        out, err = (Path(folder, name).read_text() for name in ("out", "err"))
    return subprocess.CompletedProcess(arguments, process.exitcode, out, err)


def _command(folder: Path, arguments: list[str]) -> None:
    for descriptor, name in ((1, "out"), (2, "err")):
        file = os.open(folder / name, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, descriptor)
    os.chdir(REPO)
    sys.argv[1:] = arguments
    runpy.run_module("lsn_core", run_name="__main__", alter_sys=True)


def run_inside(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The same in this process, for what a user may do wrong: starting one takes seconds, most of them imports."""
    done = CliRunner().invoke(build(), [*map(str, arguments)], prog_name="python -m lsn_core")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def until(fine: Callable[[], object], patience: float = 120.0) -> None:
    """Waits until something is so; fails where it does not come about."""
    deadline = time.monotonic() + patience
    while not fine():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.02)


@contextmanager
def serving(command: Sequence[str], environment: Mapping[str, str], log: Path, cwd: Path = REPO) -> Iterator[str]:
    """The address of the app, started by a command on a free port, and ended at last."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("w") as output:
        server = subprocess.Popen(
            command,
            cwd=cwd,
            env={**environment, "GRADIO_SERVER_PORT": str(port)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: _answers(port) or server.poll() is not None)
        assert server.poll() is None, log.read_text()[-3000:]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=5).close()
        return True
    except OSError:
        return False


def random_backbone(arch: str, seed: int = 0, **options: object) -> Backbone:
    """A real open_clip architecture with random weights."""
    torch.manual_seed(seed)
    model = open_clip.create_model(arch, pretrained=None, **options)
    return Backbone(model, f"{arch} (random weights)", open_clip.get_tokenizer(arch))


def unit_vectors(count: int, seed: int, dim: int = 16) -> torch.Tensor:
    """Random directions, shape (count, dim)."""
    return F.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)), dim=-1)


class MadeUpBackbone:
    """What scores of features need of a backbone: its texts are random directions of 16 dimensions, nouns too."""

    name, temperature, weights_hash, dim = "made up", 0.05, "0" * 64, 16
    settings: dict[str, dict[str, object]] = {"image": {}, "text": {"activation": []}}  # noqa: RUF012
    assumed = ()
    bias = -1.0

    def __init__(self, nouns: bool = True) -> None:
        if nouns:
            noun_cache[self] = unit_vectors(len(noun_list()), 1)  # type: ignore[index]

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        assert len(texts) < 100, "nouns are encoded"
        return unit_vectors(len(texts), 2)


def make_folders(root: Path, wnids: tuple[str, ...] = WNIDS, per_class: int = 2) -> tuple[Path, Path]:
    """ID and OOD folders in the layout that MCM's users have, filled with parts of the example photos."""
    photos = sorted((REPO / "assets" / "examples").glob("*.jpg"))
    folders = [f"id/{split}/{wnid}" for split in ("train", "val") for wnid in wnids]
    folders += ["ood/iNaturalist/images", "ood/dtd/images/banded"]
    for folder, path in zip(folders, photos[: len(wnids)] * 2 + photos[-2:], strict=True):
        (root / folder).mkdir(parents=True)
        first = 50 if "/val/" in folder else 0
        with Image.open(path) as photo:
            for n in range(per_class):
                left, top = (first + 10 * n) % 90, (first + 7 * n) % 80
                photo.crop((left, top, left + 200, top + 200)).save(root / folder / f"{n}.png")
    return root / "id", root / "ood"


def fill_folders(folder: Path, classes: list[str], count: int) -> None:
    """Folders of small pictures, each class in a colour of its own."""
    for i, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for k in range(count):
            noise = np.random.default_rng([i, k, count]).integers(0, 120, (16, 16, 3))
            noise[..., i % 3] += 15 * (i % 9)
            Image.fromarray(noise.astype(np.uint8)).save(folder / name / f"{k}.png")


def choose_option(page: Page, dropdown: str, option: str) -> None:
    """Opens a dropdown of the page and picks an option, as a person does who has scrolled to it first.

    Args:
        dropdown: CSS selector.
        option: its whole label.
    """
    from playwright.sync_api import TimeoutError as TookTooLong

    field = page.locator(f"{dropdown} input")
    for patience in (5_000, 10_000, 30_000):
        field.evaluate("field => field.scrollIntoView({block: 'center'})")
        field.click()
        try:
            return page.get_by_role("option", name=option, exact=True).click(timeout=patience)
        except TookTooLong:  # pictures that come in above have moved the list away from its field
            if patience == 30_000:
                raise
            page.keyboard.press("Escape")


def redis_program() -> str:
    """The path of redis-server. Without it: a skip, and in CI a failure."""
    program = shutil.which("redis-server")
    if program is None:
        reason = "no redis-server: `apt-get install redis-server`"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return program


def pixels(source: object, **options: object) -> list:
    image = open_image(source, **options)
    assert image.mode == "RGB"
    return np.asarray(image).tolist()


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(seed: int = 0, size: tuple[int, int] = (12, 16)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))
