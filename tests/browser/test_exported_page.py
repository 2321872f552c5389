"""The page beside an exported detector gives the library's verdicts in a browser, without a server of ours."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from support import REPO

from lsn_core import Backbone, Detector
from lsn_core.export.write import export
from lsn_core.shipped import DETECTORS_DIR

RUNTIME = REPO / ".venv" / "onnxruntime-web" / "node_modules" / "onnxruntime-web" / "dist"
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder with the runtime in it, and the address that serves it."""
    if not (RUNTIME / FILES[0]).exists():
        reason = "no onnxruntime-web: scripts/ensure_onnx_web.sh fetches it by npm"
        pytest.fail(reason) if os.environ.get("CI", "").lower() == "true" else pytest.skip(reason)
    folder = tmp_path_factory.mktemp("site")
    (folder / "ort").mkdir()
    for name in FILES:
        (folder / "ort" / name).symlink_to(RUNTIME / name)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}/page.html"
    server.shutdown()


@pytest.mark.parametrize("name", [path.stem for path in sorted(DETECTORS_DIR.glob("*.safetensors"))])
def test_the_examples_get_the_verdicts_of_the_library(
    browser: Browser, site: tuple[Path, str], embedded: Backbone, examples: Path, name: str
) -> None:
    folder, address = site
    detector = Detector.load(DETECTORS_DIR / f"{name}.safetensors", embedded)
    export(detector, folder)
    page = browser.new_page()
    try:
        page.goto(address)
        page.wait_for_selector("body[data-ready]", timeout=60_000)
        card, photos = page.locator("#lsn-verdict"), sorted(examples.glob("*.jpg"))
        for photo, prediction in zip(photos, detector.predict(photos), strict=True):
            before = card.get_attribute("data-score")
            page.set_input_files("#file", photo)
            page.wait_for_function(
                "before => (document.querySelector('#lsn-verdict').dataset.score ?? null) !== before", arg=before
            )
            assert card.get_attribute("data-verdict") == prediction.verdict
            assert card.get_attribute("data-class") == prediction.predicted_class
            assert float(card.get_attribute("data-score") or "nan") == pytest.approx(prediction.score, abs=0.02)
        page.set_input_files("#file", REPO / "README.md")
        page.wait_for_selector("#lsn-verdict[data-verdict=none]")
    finally:
        page.close()
