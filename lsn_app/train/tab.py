"""The Train tab: from a zip of photos to a detector of one's own, by a job that outlives the page."""

from __future__ import annotations

import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from lsn_app.serving.requests import ZERO_SHOT
from lsn_app.serving.store import Store
from lsn_app.shared import words
from lsn_app.shared.components import EventOptions, Updates, UpdatesOrSkip, Value
from lsn_app.shared.examples import load_examples
from lsn_app.shared.messages import shown_if
from lsn_app.train import words as job_cards
from lsn_app.train.plots import training_curves
from lsn_app.train.sample_sets import fetch as fetch_sample
from lsn_app.train.steps_panel import OOD_EXAMPLES, OOD_OWN, StepsPanel
from lsn_core import UserError
from lsn_core.jobs import Job, Jobs
from lsn_core.jobs.inspection import inspect
from lsn_core.jobs.job import PENDING, RESUMABLE
from lsn_core.training.presets import PRESETS, get_preset

_SECRET_FILE = "browser-secret"
_TICK_SECONDS = 1.0
_QUICK: EventOptions = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
_SLOW: EventOptions = {"concurrency_id": "jobs", "concurrency_limit": 2, "api_visibility": "private"}


def build(store: Store, page: gr.Blocks) -> None:
    """Fills the tab; without a data directory, with a note."""
    if store.jobs is None:
        gr.HTML(words.note("This server keeps no training jobs. Start it with a data directory (LSN_DATA)."))
        return
    _TrainTab(store, store.jobs, page).connect(page)


def browser_token(jobs: Jobs) -> gr.BrowserState:
    """The owner's token, which lives in the browser, so that its jobs are found again after a reload or a restart.

    It must stand outside the tabs: those are mounted when first opened, too late to be read when the page loads.
    """
    path = jobs.folder / _SECRET_FILE
    if not path.exists():
        path.touch(0o600)
        path.write_text(secrets.token_hex(16))
    return gr.BrowserState(None, storage_key="lsn-owner", secret=path.read_text())


class _TrainTab:
    """The tab's components, and the functions that its events call."""

    def __init__(self, store: Store, jobs: Jobs, page: gr.Blocks) -> None:
        self.store, self.jobs = store, jobs
        self.downloads = Path(tempfile.mkdtemp(prefix="lsn-detectors-"))  # the data directory itself is never served
        self.owner = next(block for block in page.blocks.values() if isinstance(block, gr.BrowserState))
        self.shown = gr.State(None)
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                self.steps = StepsPanel(store)
            with gr.Column(scale=3, min_width=300):
                self._build_jobs()
        self.timer = gr.Timer(_TICK_SECONDS)

    def _build_jobs(self) -> None:
        gr.HTML('<h3 class="lsn-heading">My jobs</h3>')
        self.mine = gr.Radio([], label="Jobs of this browser", visible=False, elem_id="lsn-jobs")
        self.card = gr.HTML(job_cards.no_job_card(), elem_id="lsn-job")
        with gr.Row():
            self.stop = gr.Button("Stop", size="sm", visible=False, elem_id="lsn-job-stop")
            self.resume = gr.Button("Resume", size="sm", visible=False, elem_id="lsn-job-resume")
            self.delete = gr.Button("Delete", size="sm", variant="stop", visible=False, elem_id="lsn-job-delete")
            self.download = gr.DownloadButton(
                "Download the detector", size="sm", visible=False, elem_id="lsn-job-download"
            )
            self.use = gr.Button("Use in Detect", size="sm", variant="primary", visible=False, elem_id="lsn-job-use")
        self.job_message = gr.HTML(visible=False, elem_id="lsn-job-message")
        self.curves = gr.Plot(show_label=False, visible=False, elem_id="lsn-curves")

    # -- events -------------------------------------------------------------------------------------------------------

    def connect(self, page: gr.Blocks) -> None:
        """Connects the components to what they ask for."""
        asked = [self.owner, self.mine, self.shown]
        view = [
            self.mine,
            self.card,
            self.curves,
            self.stop,
            self.resume,
            self.delete,
            self.download,
            self.use,
            self.shown,
        ]
        page.load(self.greet, self.owner, self.owner, **_QUICK).then(self.refresh, asked, view, **_QUICK)
        self.timer.tick(self.refresh, asked, view, **_QUICK)
        self.mine.input(self.refresh, asked, view, **_QUICK)
        gr.on(
            [self.steps.data.change, self.steps.shots.release],
            self.look,
            [self.steps.data, self.steps.shots],
            [self.steps.found, self.steps.data_message, self.steps.start],
            **_SLOW,
        )
        self.steps.take.click(
            self.take_sample,
            self.steps.sample,
            [self.steps.data, self.steps.data_message],
            concurrency_id="samples",
            concurrency_limit=1,
            api_visibility="private",
        )
        self.steps.ood.input(
            lambda choice: gr.update(visible=choice == OOD_OWN),
            self.steps.ood,
            self.steps.ood_file,
            api_visibility="private",
        )
        settings = [
            self.steps.preset,
            self.steps.shots,
            self.steps.ood,
            self.steps.ood_file,
            self.steps.name,
            self.steps.method,
            self.steps.sets,
            self.steps.seed,
            self.steps.backbone,
        ]
        self.steps.start.click(
            self.begin,
            [self.owner, self.steps.data, *settings],
            [self.steps.start_message, self.mine, self.shown],
            **_SLOW,
        ).then(self.refresh, asked, view, **_QUICK)
        for button, act in (
            (self.stop, self.jobs.stop),
            (self.resume, self.jobs.resume),
            (self.delete, self.jobs.delete),
        ):
            button.click(self._doing(act), [self.owner, self.mine], self.job_message, **_SLOW).then(
                self.refresh, asked, view, **_QUICK
            )
        self.detector, self.tabs = _component(page, "lsn-detector"), _component(page, "lsn-tabs")
        self.use.click(self.lend, [self.owner, self.mine], [self.detector, self.tabs, self.job_message], **_SLOW)

    def greet(self, owner: str | None) -> str:
        """The browser's token; a new one where it has none."""
        try:
            return _token(owner)
        except UserError:
            return secrets.token_urlsafe(24)

    def take_sample(
        self,
        name: str,
        progress: gr.Progress = gr.Progress(track_tqdm=True),  # noqa: B008 - Gradio wants it so
    ) -> Updates:
        """Takes a sample set as if it had been uploaded."""
        progress(None, desc=f"Fetching {name}")
        try:
            self.jobs.limits.check_room(self.jobs.files.free())
            found = fetch_sample(name, self.jobs.folder / "samples")
            copy = self.downloads / found.name
            if not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(found, copy)
        except UserError as error:
            return {self.steps.data_message: shown_if(words.problem(str(error)))}
        return {self.steps.data: str(copy), self.steps.data_message: shown_if("")}

    def look(self, path: str | None, shots: int) -> Updates:
        """What an uploaded data set holds."""
        nothing = {
            self.steps.found: words.note("Upload the photos first."),
            self.steps.start: gr.update(interactive=False),
        }
        if path is None:
            return nothing | {self.steps.data_message: shown_if("")}
        name = Path(path).name
        try:
            found = inspect(Path(path), name, self.jobs.limits)
        except UserError as error:
            return nothing | {self.steps.data_message: shown_if(words.problem(str(error)))}
        card = job_cards.found_card(name, found, int(shots), PRESETS["fast"].calibration_share)
        return {
            self.steps.found: card,
            self.steps.data_message: shown_if(""),
            self.steps.start: gr.update(interactive=True),
        }

    def begin(
        self,
        owner: str,
        path: str | None,
        preset: str,
        shots: int,
        ood: str,
        ood_file: str | None,
        name: str,
        method: str,
        sets: int,
        seed: int,
        backbone: str,
    ) -> Updates:
        """Takes a job in and chooses it in the list."""
        try:
            if path is None:
                raise UserError("Upload the photos of your classes first.")
            if ood == OOD_OWN and ood_file is None:
                raise UserError("Upload the photos to measure against, or choose something else there.")
            if self.store.public and backbone not in self.store.choices:
                raise UserError(f"This server runs only these backbones: {', '.join(self.store.choices)}.")
            config = get_preset(preset, method, shots=int(shots), seed=int(seed))
            config = replace(config, negative=replace(config.negative, sets=int(sets)))
            with self._others(Path(path), ood, ood_file) as others:
                job = self.jobs.submit(
                    Path(path),
                    _token(owner),
                    config,
                    backbone=backbone,
                    name=name.strip() or None,
                    ood=others,
                    ood_name="the example photos" if ood == OOD_EXAMPLES else None,
                )
        except UserError as error:
            return {self.steps.start_message: shown_if(words.problem(str(error)))}
        choices = [(job_cards.job_label(job, None), job.id)]
        return {
            self.steps.start_message: shown_if(words.note(f"{job.name} is in the queue. You may close this page.")),
            self.mine: gr.update(choices=choices, value=job.id),
            self.shown: None,
        }

    @contextmanager
    def _others(self, data: Path, choice: str, own: str | None) -> Iterator[Path | None]:
        """The photos to measure against. Examples named like one of the classes are left out."""
        if choice != OOD_EXAMPLES:
            yield Path(own) if own and choice == OOD_OWN else None
            return
        known = {name.casefold() for name in inspect(data, data.name, self.jobs.limits, most=1).classes}
        with tempfile.TemporaryDirectory() as folder:
            for example in load_examples():
                if example.label.casefold() not in known:
                    shutil.copy(example.path, folder)
            yield Path(folder)

    def refresh(self, owner: str | None, chosen: str | None, shown: Value) -> UpdatesOrSkip:
        """The jobs and the chosen one, where anything has changed since they were shown."""
        mine = self.jobs.list(_token(owner)) if owner else []
        job = next((job for job in mine if job.id == chosen), mine[0] if mine else None)
        working = self.jobs.working() if job and job.state == "queued" else True
        places = {other.id: self.jobs.position(other.id) for other in mine if other.state == "queued"}
        now = [[(other.id, other.state, other.name, places.get(other.id)) for other in mine], job, working]
        if repr(now) == shown:
            return gr.skip()
        choices = [(job_cards.job_label(other, places.get(other.id)), other.id) for other in mine]
        found: Updates = {
            self.mine: gr.update(choices=choices, value=job.id if job else None, visible=bool(mine)),
            self.stop: gr.update(visible=job is not None and job.state in PENDING),
            self.resume: gr.update(visible=job is not None and job.state in RESUMABLE),
            self.delete: gr.update(visible=job is not None),
            self.use: gr.update(visible=job is not None and job.state == "done"),
            self.download: self._download(job),
            self.shown: repr(now),
        }
        if job is None:
            return found | {self.card: job_cards.no_job_card(), self.curves: gr.update(visible=False)}
        points = self.jobs.progress(job.id)
        curves = training_curves(points, job.total)
        return found | {
            self.card: job_cards.job_card(job, places.get(job.id), self.jobs.seconds_left(job), working),
            self.curves: gr.update(value=curves, visible=True) if len(points) > 1 else gr.update(visible=False),
        }

    def lend(self, owner: str, job_id: str, request: gr.Request) -> Updates:
        """Offers the detector of a job in the Detect tab, to this browser only, and goes there."""
        try:
            job = self.jobs.get(job_id, _token(owner))
            label = self.store.lend(self.jobs.result(job.id), f"{job.name} (my job)", request.session_hash)
        except UserError as error:
            return {self.job_message: shown_if(words.problem(str(error)))}
        choices = [ZERO_SHOT, *self.store.offered(request.session_hash)]
        return {
            self.detector: gr.update(choices=choices, value=label),
            self.tabs: gr.update(selected="detect"),
            self.job_message: shown_if(""),
        }

    def _doing(self, act: Callable[[str, str], object]) -> Callable[[str, str | None], Any]:
        def do(owner: str, job_id: str | None) -> Any:
            try:
                act(job_id or "", _token(owner))
            except UserError as error:
                return shown_if(words.problem(str(error)))
            return shown_if("")

        return do

    def _download(self, job: Job | None) -> Any:
        if job is None or job.result is None:
            return gr.update(visible=False, value=None)
        name = re.sub(r"[^\w-]+", "-", Path(job.name).stem).strip("-") or "detector"
        copy = self.downloads / job.id / f"{name}.safetensors"
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.jobs.files.folder(job.id) / job.result, copy)
        return gr.update(visible=True, value=str(copy))


def _token(owner: object) -> str:
    # security: no token would mean the administrator, who sees all jobs.
    if not isinstance(owner, str) or len(owner) < 16:
        raise UserError("This browser keeps no data for the page, so its jobs cannot be told from others. Allow it to.")
    return owner


def _component(page: gr.Blocks, elem_id: str) -> Any:
    return next(block for block in page.blocks.values() if getattr(block, "elem_id", None) == elem_id)
