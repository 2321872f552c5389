"""The Train tab: from a zip of photos to a detector of one's own, by a job that outlives the page."""

from __future__ import annotations

import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from lsn_app.serving.lru import LRU
from lsn_app.serving.requests import Problem
from lsn_app.shared import words
from lsn_app.shared.components import EventOptions, Updates, UpdatesOrSkip, Values
from lsn_app.shared.messages import hidden_if_empty
from lsn_app.shared.shared import Shared, detector_choices
from lsn_app.shared.turns import Turns
from lsn_app.shared.uploads import open_others
from lsn_app.train import words as job_cards
from lsn_app.train.answer import OOD_OWN, submit, together
from lsn_app.train.plots import training_curves
from lsn_app.train.sample_sets import fetch as fetch_sample
from lsn_app.train.steps_panel import StepsPanel
from lsn_app.train.trial import Trial
from lsn_core import UserError
from lsn_core.jobs import Job, Jobs
from lsn_core.jobs.inspection import inspect
from lsn_core.jobs.job import PENDING, RESUMABLE
from lsn_core.training.presets import PRESETS

_SECRET_FILE = "browser-secret"
_TICK_SECONDS = 1.0
_DOUBLE_CLICK_SECONDS = 3.0
_OWNERS = 1024
_QUICK: EventOptions = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
_SLOW: EventOptions = {"concurrency_id": "jobs", "concurrency_limit": 2, "api_visibility": "private"}

_NEWEST: EventOptions = {"trigger_mode": "always_last", **_SLOW}  # Gradio's default forgets what comes meanwhile


def build(shared: Shared) -> None:
    """Fills the tab; without a data directory, with a note."""
    if shared.store.jobs is None:
        gr.HTML(words.note("This server keeps no training jobs. Start it with a data directory (LSN_DATA)."))
        return
    _TrainTab(shared, shared.store.jobs).connect()


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

    def __init__(self, shared: Shared, jobs: Jobs) -> None:
        self.shared, self.store = shared, shared.store
        self.page, self.tabs, self.detector = shared.page, shared.tabs, shared.detector
        self.jobs, self.owner = jobs, shared.owner
        self.downloads = Path(tempfile.mkdtemp(prefix="lsn-detectors-"))  # the data directory itself is never served
        self.submitted = LRU(_OWNERS)  # owner -> the last request, and when it was taken
        self.submitting = threading.Lock()  # the second click of two waits for what becomes of the first
        self.turns, self.trial = Turns(), Trial(self.store)
        self.seen = gr.State(None)  # what the list and the card were last drawn from
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                self.steps = StepsPanel(self.store)
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
            self.delete = gr.Button("Delete …", size="sm", visible=False, elem_id="lsn-job-delete")
            self.download = gr.DownloadButton(
                "Download the detector", size="sm", visible=False, elem_id="lsn-job-download"
            )
            self.use = gr.Button("Use in Detect", size="sm", variant="primary", visible=False, elem_id="lsn-job-use")
            self.keep = gr.Button(
                "Use the hand-written prompts in Detect", size="sm", visible=False, elem_id="lsn-job-keep"
            )
        with gr.Row(visible=False, elem_id="lsn-job-confirm") as self.confirm:
            gr.HTML(words.note("Delete this job, its photos and its detector for good?"))
            self.delete_now = gr.Button("Delete for good", size="sm", variant="stop", elem_id="lsn-job-delete-now")
            self.keep_job = gr.Button("Keep it", size="sm")
        self.job_message = gr.HTML(visible=False, elem_id="lsn-job-message")
        self.curves = gr.Plot(show_label=False, visible=False, elem_id="lsn-curves")

    # -- events -------------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Connects the components to what they ask for."""
        steps = self.steps
        asked = [self.owner, self.mine, self.seen]
        view = [
            self.mine,
            self.card,
            self.curves,
            self.stop,
            self.resume,
            self.delete,
            self.download,
            self.use,
            self.keep,
            steps.start_message,
            self.seen,
        ]
        self.page.load(self.greet, self.owner, self.owner, **_QUICK).then(self.refresh, asked, view, **_QUICK)
        self.timer.tick(self.refresh, asked, view, **_QUICK)
        named = self.shared.tab.select(self.name_recipes, None, steps.preset, **_QUICK)
        named.then(self.try_recipes, None, steps.preset, show_progress="hidden", **_SLOW)
        self.mine.input(self.refresh, asked, view, **_QUICK)
        found = [steps.contents, steps.split, steps.data_message, steps.start]
        steps.data.change(self.inspect_data, [steps.data, steps.shots], found, **_NEWEST)
        again = [steps.shots.release, steps.split.input]
        gr.on(again, self.inspect_split, [steps.data, steps.shots, steps.split], found, **_NEWEST)
        steps.take.click(
            self.take_sample,
            steps.sample,
            [steps.data, steps.data_message],
            concurrency_id="samples",
            concurrency_limit=1,
            api_visibility="private",
        )
        steps.ood.input(
            lambda choice: gr.update(visible=choice == OOD_OWN), steps.ood, steps.ood_file, api_visibility="private"
        )
        steps.ood_file.change(self.inspect_ood, steps.ood_file, steps.ood_contents, **_SLOW)
        steps.start.click(
            self.begin, {self.owner, *steps.inputs}, [steps.start_message, self.mine, self.seen], **_SLOW
        ).then(self.refresh, asked, view, **_QUICK)
        for button, act in (
            (self.stop, self.jobs.stop),
            (self.resume, self.jobs.resume),
            (self.delete_now, self.jobs.delete),
        ):
            button.click(self._doing(act), [self.owner, self.mine], self.job_message, **_SLOW).then(
                self.refresh, asked, view, **_QUICK
            )
        self.delete.click(lambda: gr.update(visible=True), None, self.confirm, **_QUICK)
        for event in (self.keep_job.click, self.delete_now.click, self.mine.input):
            event(lambda: gr.update(visible=False), None, self.confirm, **_QUICK)
        kept = [self.shared.classes, self.detector, self.tabs]
        self.keep.click(self.use_hand_written, [self.owner, self.mine], kept, **_SLOW)
        self.use.click(
            self.use_in_detect, [self.owner, self.mine], [self.detector, self.tabs, self.job_message], **_SLOW
        )

    def name_recipes(self) -> Any:
        """The recipes, with how long the last job by each took on this machine."""
        jobs = self.jobs.list()
        tried = self.trial.seconds() if self.trial.done else {}
        choices, info = job_cards.recipe_choices(jobs, tried), job_cards.recipe_note(jobs, tried)
        return gr.update(choices=choices, info=info or None)

    def try_recipes(self) -> Any:
        """The same, with how long those may take that were not used yet: the first time, that is tried."""
        if self.trial.done:
            return gr.skip()
        self.trial.seconds()
        return self.name_recipes()

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
            sample = fetch_sample(name, self.jobs.folder / "samples")
            copy = self.downloads / sample.name
            if not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(sample, copy)
        except UserError as error:
            return {self.steps.data_message: hidden_if_empty(words.problem(str(error)))}
        return {self.steps.data: str(copy), self.steps.data_message: hidden_if_empty("")}

    def inspect_data(self, path: str | None, shots: int, request: gr.Request) -> UpdatesOrSkip:
        """What an uploaded data set holds; of several splits, the one for training."""
        return self.inspect_split(path, shots, None, request)

    def inspect_split(self, path: str | None, shots: int, split: str | None, request: gr.Request) -> UpdatesOrSkip:
        """What a split of it holds."""
        question = self.turns.ask(request.session_hash, "data")
        return question.unless_over(self._inspect_data(path, shots, split))

    def _inspect_data(self, path: str | None, shots: int, split: str | None) -> Updates:
        nothing = {
            self.steps.contents: words.note("Upload the photos first."),
            self.steps.split: gr.update(choices=[], value=None, visible=False),
            self.steps.start: gr.update(interactive=False),
        }
        if path is None:
            return nothing | {self.steps.data_message: hidden_if_empty("")}
        name = Path(path).name
        try:
            contents = inspect(Path(path), name, self.jobs.limits, split=split)
        except UserError as error:
            if splits := getattr(error, "splits", ()):  # none of them is for training by its name
                nothing[self.steps.split] = gr.update(choices=list(splits), value=None, visible=True)
                sentence = f"{name} holds the splits {', '.join(splits)}. Choose one below."
                return nothing | {self.steps.data_message: hidden_if_empty(words.problem(sentence))}
            return nothing | {self.steps.data_message: hidden_if_empty(words.problem(str(error)))}
        card = job_cards.contents_card(name, contents, int(shots), PRESETS["fast"].calibration_share)
        return {
            self.steps.contents: card,
            self.steps.split: gr.update(
                choices=list(contents.splits), value=contents.split, visible=len(contents.splits) > 1
            ),
            self.steps.data_message: hidden_if_empty(""),
            self.steps.start: gr.update(interactive=True),
        }

    def inspect_ood(self, paths: Sequence[str] | None) -> Updates:
        """What the uploaded photos of none of the classes hold."""
        files = [Path(path) for path in paths or ()]
        try:
            with together(files):
                sets = open_others([(str(file), file.name) for file in files])
        except (UserError, Problem) as error:
            return {self.steps.ood_contents: hidden_if_empty(words.problem(str(error)))}
        return {self.steps.ood_contents: hidden_if_empty(job_cards.ood_note(sets))}

    def begin(self, values: Values) -> UpdatesOrSkip:
        """Takes a job in and chooses it in the list; a double click is one click."""
        request = self.steps.read(values)
        try:
            owner = _token(values[self.owner])
            with self.submitting:
                before, when = self.submitted.get(owner) or (None, 0.0)
                if request == before and time.monotonic() - when < _DOUBLE_CLICK_SECONDS:
                    return gr.skip()
                job = submit(self.store, self.jobs, owner, request)
                self.submitted.put(owner, (request, time.monotonic()))
        except UserError as error:
            return {self.steps.start_message: hidden_if_empty(words.problem(str(error)))}
        choices = [(job_cards.job_label(job, None), job.id)]
        note = words.note(f"{job.name} is in the queue. You may close this page.")
        return {
            self.steps.start_message: hidden_if_empty(note),
            self.mine: gr.update(choices=choices, value=job.id),
            self.seen: None,
        }

    def refresh(self, owner: str | None, chosen: str | None, seen: str | None) -> UpdatesOrSkip:
        """The jobs and the chosen one, where anything has changed since they were drawn."""
        mine = self.jobs.list(_token(owner)) if owner else []
        job = next((job for job in mine if job.id == chosen), mine[0] if mine else None)
        hindrance = self.jobs.hindrance() if job and job.state == "queued" else ""
        positions = {other.id: self.jobs.position(other.id) for other in mine if other.state == "queued"}
        now = repr([[(other.id, other.state, other.name, positions.get(other.id)) for other in mine], job, hindrance])
        if now == seen:
            return gr.skip()
        choices = [(job_cards.job_label(other, positions.get(other.id)), other.id) for other in mine]
        updates: Updates = {
            self.mine: gr.update(choices=choices, value=job.id if job else None, visible=bool(mine)),
            self.stop: gr.update(visible=job is not None and job.state in PENDING),
            self.resume: gr.update(visible=job is not None and job.state in RESUMABLE),
            self.delete: gr.update(visible=job is not None),
            self.use: gr.update(visible=job is not None and job.state == "done"),
            self.keep: gr.update(visible=job is not None and job_cards.is_worse(job)),
            self.download: self._download(job),
            self.seen: now,
        }
        if job is not None and job.state not in PENDING:
            updates[self.steps.start_message] = hidden_if_empty("")
        if job is None:
            return updates | {self.card: job_cards.no_job_card(), self.curves: gr.update(visible=False)}
        points = self.jobs.progress(job.id)
        curves = training_curves(points, job.total, job.state == "done")
        return updates | {
            self.card: job_cards.job_card(job, positions.get(job.id), self.jobs.seconds_left(job), hindrance),
            self.curves: gr.update(value=curves, visible=True) if len(points) > 1 else gr.update(visible=False),
        }

    def use_in_detect(self, owner: str, job_id: str, request: gr.Request) -> Updates:
        """Offers the detector of a job in the Detect tab, to this browser only, and goes there."""
        try:
            job = self.jobs.get(job_id, _token(owner))
            label = self.store.register(self.jobs.result(job.id))
        except UserError as error:
            return {self.job_message: hidden_if_empty(words.problem(str(error)))}
        choices = detector_choices(self.store, request.session_hash, owner)
        return {
            self.detector: gr.update(choices=choices, value=label),
            self.tabs: gr.update(selected="detect"),
            self.job_message: hidden_if_empty(""),
        }

    def use_hand_written(self, owner: str, job_id: str) -> Updates:
        """Goes to Detect, to ask there by the names of a job's classes alone."""
        return self.shared.names_alone_in_detect(list(self.jobs.get(job_id, _token(owner)).classes))

    def _doing(self, act: Callable[[str, str], object]) -> Callable[[str, str | None], Any]:
        def do(owner: str, job_id: str | None) -> Any:
            try:
                act(job_id or "", _token(owner))
            except UserError as error:
                return hidden_if_empty(words.problem(str(error)))
            return hidden_if_empty("")

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
