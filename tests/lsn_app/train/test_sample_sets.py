"""Sample sets: fetched once from a server of the same layout, kept for all, and a sentence where that cannot be."""

from __future__ import annotations

import hashlib
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from torchvision import datasets
from torchvision.datasets import eurosat

from benchmarks.speed.job_kills import crops
from lsn_app.train.sample_sets import PER_CLASS, SAMPLES, fetch
from lsn_core import UserError
from lsn_core.jobs.inspection import inspect
from lsn_core.jobs.limits import JobLimits

asked: list[str] = []


class Handler(SimpleHTTPRequestHandler):
    def send_head(self):  # type: ignore[no-untyped-def]
        asked.append(self.path)
        return super().send_head()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    asked.clear()
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def imagenette(folder: Path, count: int = 3) -> str:
    """An archive in Imagenette's layout, of photos that ship; its checksum."""
    photos = crops(folder / "photos", ("church", "guitar"), count)
    path = folder / "served" / "imagenette2-160.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name, wnid in (("church", "n03028079"), ("guitar", "n03888257")):
            for photo in (photos / name).iterdir():
                for split in ("train", "val"):
                    archive.add(photo, f"imagenette2-160/{split}/{wnid}/{photo.stem}.JPEG")
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_imagenette_is_fetched_once_and_is_a_data_set_for_jobs(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = (f"{server}/imagenette2-160.tgz", imagenette(tmp_path))
    monkeypatch.setitem(datasets.Imagenette._ARCHIVES, "160px", archive)
    found: list[Path] = []
    visitors = [
        threading.Thread(target=lambda: found.append(fetch("Imagenette", tmp_path / "samples"))) for _ in range(3)
    ]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert len(found) == 3 and len(set(found)) == 1
    assert asked.count("/imagenette2-160.tgz") == len(asked) > 0
    before = len(asked)
    fetch("Imagenette", tmp_path / "samples")
    assert len(asked) == before
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["Imagenette.zip"]
    seen = inspect(found[0], "Imagenette", JobLimits())
    assert seen.classes == {"church": 3, "parachute": 3} and not seen.unreadable


def test_eurosats_names_become_words_and_classes_are_bounded(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = (crops(tmp_path / "photos", ("church",), 1) / "church" / "00.png").read_bytes()
    with zipfile.ZipFile(tmp_path / "served" / "EuroSAT.zip", "w") as archive:
        for i in range(PER_CLASS + 2):
            archive.writestr(f"2750/AnnualCrop/AnnualCrop_{i}.png", photo)
        archive.writestr("2750/SeaLake/SeaLake_1.png", photo)
    genuine = eurosat.download_and_extract_archive

    def local(url: str, download_root: str, md5: str) -> None:
        assert url.startswith("https://") and len(md5) == 32
        genuine(f"{server}/EuroSAT.zip", download_root=download_root)

    monkeypatch.setattr(eurosat, "download_and_extract_archive", local)
    path = fetch("EuroSAT", tmp_path / "samples")
    assert inspect(path, "EuroSAT", JobLimits(), most=1).classes == {"annual crop": PER_CLASS, "sea lake": 1}


def test_a_wrong_checksum_and_no_network_are_sentences_and_leave_nothing(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    imagenette(tmp_path)
    for url in (f"{server}/imagenette2-160.tgz", "http://no-such-host.invalid/imagenette2-160.tgz"):
        monkeypatch.setitem(datasets.Imagenette._ARCHIVES, "160px", (url, "0" * 32))
        with pytest.raises(UserError, match=r"Imagenette could not be fetched .*upload photos of your own"):
            fetch("Imagenette", tmp_path / "samples")
        assert not [*(tmp_path / "samples").iterdir()]


def test_nothing_else_is_fetched_and_terms_are_told_before(tmp_path: Path) -> None:
    for name in ("http://127.0.0.1/x.zip", "../Imagenette", ""):
        with pytest.raises(UserError, match="There is no sample set called"):
            fetch(name, tmp_path)
    assert all("MiB from" in sample.about and "(" in sample.about for sample in SAMPLES.values())
