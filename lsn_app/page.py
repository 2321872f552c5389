"""The page as a whole: settings, the frame around the tabs, and how it is served."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from html import escape
from typing import Any

import gradio as gr
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

from lsn_app.detect import tab as detect
from lsn_app.endpoints import check_mcp
from lsn_app.evaluate import tab as evaluate
from lsn_app.negation import tab as negation
from lsn_app.serving.blocks import GuardedBlocks
from lsn_app.serving.front_door import FrontDoor, explain_unfit
from lsn_app.serving.metrics import Metrics
from lsn_app.serving.requests import ZERO_SHOT
from lsn_app.serving.store import Store
from lsn_app.settings import Settings
from lsn_app.shared.components import EventOptions
from lsn_app.shared.shared import Shared, detector_choices
from lsn_app.shared.theme import CSS_FILE, build_theme
from lsn_app.shared.words import problem
from lsn_app.train import tab as train
from lsn_core import UserError
from lsn_core.backbones.loading import EMBEDDED
from lsn_core.jobs import Jobs
from lsn_core.shipped import ASSETS_DIR, EXAMPLES_DIR

log = logging.getLogger(__name__)

TITLE = "Learn to say no"
ABOUT = "CLIP names your classes. With a learned “no” it also tells when a photo shows none of them."  # of a link
TAGLINE = "CLIP, taught to answer “none of these”."
PAPER = "https://openreview.net/forum?id=nanyAujl6e"
_PREVIEW_PATH = "/preview.png"
# Title, id (which a link names: ?tab=detect), function of what tabs share that fills the tab.
TABS = (
    ("Detect", "detect", detect.build),
    ("CLIP and “not”", "not", negation.build),
    ("Train", "train", train.build),
    ("Evaluate", "evaluate", evaluate.build),
)
_PRIVATE: EventOptions = {"api_visibility": "private"}
_NO_STATISTICS = {"GRADIO_ANALYTICS_MAX_EVENTS": "1", "GRADIO_ANALYTICS_CACHE_FREQUENCY": str(10**9)}
MAX_FILE_SIZE = "512mb"  # of a data set; photos have a lower limit of their own
# So that a copied address opens the same tab, and Back goes back a tab. The first tab is also "selected" while the page
# is built, before the link was read.
_LINK_IS_READ = """() => {
    window.lsnLinkIsRead = true;
    window.addEventListener("popstate", () => {
        const tab = new URL(window.location).searchParams.get("tab") ?? "detect";
        document.querySelector(`#lsn-tabs button[data-tab-id="${CSS.escape(tab)}"]`)?.click();
    });
}"""
_SHOW_IN_ADDRESS = """() => {
    if (!window.lsnLinkIsRead) return;
    const address = new URL(window.location);
    if ((address.searchParams.get("tab") ?? "detect") === "%s") return;
    window.history.pushState(null, "", `${address.pathname}?tab=%s`);
}"""


def build_app(settings: Settings | None = None) -> GuardedBlocks:
    """The page, with its backbone loaded. Falls back to the embedded one, and says so, where that one can't be had."""
    settings = settings or Settings()
    jobs = None if settings.data_dir is None else Jobs(settings.data_dir, queue_url=settings.queue_url)
    store, notice = _open_store(settings, jobs)
    notice = " ".join(filter(None, (*settings.notices, notice)))
    # analytics_enabled: nothing is sent anywhere; delete_cache: uploads are looked for hourly and deleted after a day.
    with GuardedBlocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, 86_400), fill_width=False) as page:
        gr.HTML(_header(settings), elem_id="lsn-title", padding=False)
        if notice:
            gr.HTML(problem(notice), elem_id="lsn-notice")
        owner = gr.State(None) if jobs is None else train.browser_token(jobs)
        detector = gr.Dropdown(
            detector_choices(store),
            value=ZERO_SHOT,
            label="Detector",
            min_width=200,
            elem_id="lsn-detector",
            render=False,
        )
        classes = gr.Textbox(
            label="Known classes",
            placeholder="Separated by commas",
            lines=1,
            max_lines=3,
            elem_id="lsn-classes",
            render=False,
        )
        with gr.Tabs(elem_id="lsn-tabs") as tabs:
            for title, name, build in TABS:
                with gr.Tab(title, id=name) as tab:
                    build(Shared(store, page, tabs, tab, detector, classes, owner))
                tab.select(None, js=_SHOW_IN_ADDRESS % (name, name), api_visibility="private")
        page.load(None, js=(ASSETS_DIR / "names.js").read_text(encoding="utf-8").partition("\n")[2], **_PRIVATE)
        page.load(_tab_of_link, None, tabs, show_progress="hidden", api_visibility="private").then(
            None, js=_LINK_IS_READ, api_visibility="private"
        )
    page.address, page.about, page.picture = settings.address, ABOUT, _PREVIEW_PATH
    page.metrics = Metrics() if settings.metrics else None
    if page.metrics is not None:
        store.on_verdict = page.metrics.verdict
    # Gradio's own statistics, which are not shown here, would be made of all requests anew at each.
    for name, value in _NO_STATISTICS.items():
        os.environ.setdefault(name, value)
    page.queue(max_size=64, default_concurrency_limit=2)
    return page


def launch_options(settings: Settings | None = None, *, mcp: bool = False) -> dict[str, Any]:
    """Keyword arguments for `launch`: how the page is dressed, and what may be read and sent.

    Args:
        settings: how the app is set up.
        mcp: whether the public endpoints are tools of an MCP server, too.

    Raises:
        UserError: the package that MCP needs is not installed.
    """
    if mcp:
        check_mcp()
    settings = settings or Settings()
    door = Middleware(FrontDoor, hosts=settings.hosts, frames=settings.frames, forwarded=settings.proxied)
    handlers = {RequestValidationError: explain_unfit, HTTPException: explain_unfit}
    return {
        "theme": build_theme(),
        "css_paths": CSS_FILE,
        "allowed_paths": [str(EXAMPLES_DIR)],
        "favicon_path": str(ASSETS_DIR / "favicon.png"),
        "app_kwargs": {
            "routes": [Route(_PREVIEW_PATH, _preview)],
            "middleware": [door],
            "exception_handlers": handlers,
        },
        "max_file_size": MAX_FILE_SIZE,
        "enable_monitoring": False,
        "ssr_mode": False,
        "footer_links": ["api", "settings"],
        "mcp_server": mcp,
    }


async def _preview(request: Request) -> FileResponse:
    return FileResponse(ASSETS_DIR / "preview.png")


def _header(settings: Settings) -> str:
    links = [f'<a href="{PAPER}" target="_blank" rel="noopener">Paper</a>']
    if settings.source:
        links.append(f'<a href="{escape(settings.source)}" target="_blank" rel="noopener">Code</a>')
    return f'<header class="lsn-header"><h1>{TITLE}</h1><p>{TAGLINE} <span>{" · ".join(links)}</span></p></header>'


def _tab_of_link(request: gr.Request) -> Any:
    wanted = request.query_params.get("tab")
    return gr.Tabs(selected=wanted) if wanted in {name for _, name, _ in TABS} else gr.skip()


def _open_store(settings: Settings, jobs: Jobs | None) -> tuple[Store, str]:
    store = Store(
        settings.backbone,
        public=settings.public,
        detectors_dir=settings.detectors_dir,
        jobs=jobs,
        compiling=settings.compiling,
    )
    try:
        encoder = store.encoder(settings.backbone)
        # The fingerprint reads all weights once: better now than in somebody's first question.
        log.info("backbone %s, fingerprint %s", settings.backbone, encoder.fingerprint[:12])
        # security: what is assumed names files of this machine, which is no stranger's business.
        return store, "" if settings.public else " ".join(encoder.backbone.assumed)
    except UserError as error:
        log.warning("%s", error)
        reason = str(error)
    if settings.backbone == EMBEDDED:
        return store, reason
    store, worse = _open_store(replace(settings, backbone=EMBEDDED), jobs)
    return store, f"{reason} {worse}" if worse else f"{reason} This page uses '{EMBEDDED}' instead."
