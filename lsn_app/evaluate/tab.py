"""The Evaluate tab: how well a detector tells photos of its classes from others, beside MCM on the same photos."""

from __future__ import annotations

import math
import tempfile
import threading
from pathlib import Path

import gradio as gr

from lsn_app.evaluate import plots as evaluate_plots
from lsn_app.evaluate import words as evaluate_words
from lsn_app.evaluate.answer import OURS, Report, check_sets, measure, split_examples
from lsn_app.evaluate.results_browser import BenchmarkBrowser
from lsn_app.serving.requests import ZERO_SHOT, Problem, open_judge
from lsn_app.serving.store import Store
from lsn_app.shared import words
from lsn_app.shared.components import EventOptions, Updates, UpdatesOrSkip, UploadedFiles, Value
from lsn_app.shared.examples import load_examples
from lsn_app.shared.messages import plot_title, said
from lsn_app.shared.photo_input import file_of
from lsn_app.shared.uploads import ImageSet, open_known, open_others
from lsn_core import Detector, UserError
from lsn_core.jobs import Job
from lsn_core.metrics import threshold_at_tpr

EXAMPLE_CLASSES = "cat, dog, elephant, flamingo, church, guitar, school bus, daisy"  # half of the examples
# On a phone the result is far from the button that asks for it.
_TO_RESULT = """() => {
    document.querySelector("#eval-card").scrollIntoView({ block: "nearest", behavior: "smooth" });
    return [];
}"""
_PLACES = ("classes", "model", "known", "others")
_QUICK: EventOptions = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
_LOOK: EventOptions = {"concurrency_id": "jobs", "concurrency_limit": 2, "api_visibility": "private"}
# One at a time: two would only halve each other's speed, and Detect is to answer meanwhile.
_RUN: EventOptions = {"concurrency_id": "evaluate", "concurrency_limit": 1, "api_visibility": "private"}


def build(store: Store, page: gr.Blocks) -> None:
    """Fills the tab."""
    _EvaluateTab(store, page).connect(page)


class _Stopped(Exception):
    pass


class _EvaluateTab:
    """The tab's components, and the functions that its events call."""

    def __init__(self, store: Store, page: gr.Blocks) -> None:
        self.store, self.examples = store, load_examples()
        self.stops: dict[str | None, threading.Event] = {}  # by session, while it measures
        self.cache = store.jobs.files.cache if store.jobs else Path(tempfile.mkdtemp(prefix="lsn-features-"))
        self.lent: dict[str, str] = {}  # job -> label
        self.called = {ZERO_SHOT: "Zero-shot"}  # label -> name
        self.owner = next((block for block in page.blocks.values() if isinstance(block, gr.BrowserState)), None)
        self.messages: dict[str, gr.HTML] = {}
        self.example = gr.State(False)
        gr.Markdown(
            "How well does a detector tell photos of its classes from photos of other things? Give some of both, and "
            "see it beside MCM, the usual way to do without learning."
        )
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                self._build_steps()
            with gr.Column(scale=3, min_width=300):
                self._build_start()
                self.card = gr.HTML(evaluate_words.nothing_yet(), elem_id="eval-card")
                self.table = gr.HTML(visible=False, elem_id="eval-results")
                self.links = gr.HTML(visible=False, elem_id="eval-links")
        with gr.Row(visible=False) as self.figures:
            with gr.Column(min_width=300):
                plot_title(
                    "Scores", "Of known and of other photos. The further apart, the better; lines are thresholds."
                )
                self.histograms = gr.Plot(show_label=False, elem_id="eval-histograms")
            with gr.Column(min_width=300):
                plot_title(
                    "ROC curves", "What each threshold keeps and lets pass. The nearer to the top left, the better."
                )
                self.roc = gr.Plot(show_label=False, elem_id="eval-roc")
        with gr.Accordion("Results of this project's benchmarks", open=False, elem_id="eval-benchmarks"):
            BenchmarkBrowser()

    def _build_steps(self) -> None:
        self.try_it = gr.Button(
            "Try it with the example photos", size="sm", visible=bool(self.examples), elem_id="eval-example"
        )
        _heading("1. The detector")
        self.detector = gr.Dropdown(
            [ZERO_SHOT, *self.store.detectors], value=ZERO_SHOT, label="Detector", elem_id="eval-detector"
        )
        self.classes = gr.Textbox(
            EXAMPLE_CLASSES,
            label="Known classes",
            info="Separated by commas or lines.",
            lines=1,
            max_lines=6,
            elem_id="eval-classes",
        )
        self.own_classes = gr.HTML(visible=False, elem_id="eval-own-classes")
        self._message("classes")
        self.backbone = gr.Dropdown(
            self.store.choices,
            value=self.store.default,
            label="CLIP model (backbone)",
            allow_custom_value=not self.store.public,
            elem_id="eval-backbone",
        )
        self._message("model")
        _heading("2. Photos of its classes")
        gr.HTML(
            words.note(
                "One zip of class folders (cat/1.jpg, dog/1.jpg, …) or Parquet file; or photos by themselves. Not "
                "those that the detector was trained on: they would flatter it."
            )
        )
        self.known = gr.File(
            label="Known",
            file_count="multiple",
            file_types=["image", ".zip", ".parquet"],
            height=120,
            elem_id="eval-known",
        )
        self._message("known")
        _heading("3. Photos of other things")
        gr.HTML(
            words.note("Each zip or Parquet file is measured as a set of its own; photos by themselves make one more.")
        )
        self.others = gr.File(
            label="Other",
            file_count="multiple",
            file_types=["image", ".zip", ".parquet"],
            height=160,
            elem_id="eval-others",
        )
        self._message("others")

    def _build_start(self) -> None:
        _heading("4. What was found")
        self.found = gr.HTML(evaluate_words.found(None, []), elem_id="eval-found")
        with gr.Row():
            self.start = gr.Button("Start", variant="primary", interactive=False, elem_id="eval-start")
            self.stop = gr.Button("Stop", visible=False, elem_id="eval-stop")

    def _message(self, place: str) -> None:
        self.messages[place] = gr.HTML(visible=False, elem_id=f"eval-message-{place}")

    # -- events -------------------------------------------------------------------------------------------------------

    def connect(self, page: gr.Blocks) -> None:
        """Connects the components to what they ask for."""
        about = [self.detector, self.classes, self.backbone]
        asked = [self.known, self.others, self.example, *about]
        looked = [self.found, self.start, *self.messages.values()]
        chosen = [self.classes, self.own_classes, self.backbone]
        shown = [
            self.card,
            self.table,
            self.links,
            self.figures,
            self.histograms,
            self.roc,
            self.start,
            self.stop,
            *self.messages.values(),
        ]
        looking: EventOptions = {"fn": self.look, "inputs": asked, "outputs": looked, "preprocess": False, **_LOOK}
        for files in (self.known, self.others):
            taken = files.change(self.take_files, asked, [self.example, self.classes], preprocess=False, **_QUICK)
            taken.then(**looking)
        self.detector.change(self.choose_detector, asked, chosen, preprocess=False, **_QUICK).then(**looking)
        gr.on([self.classes.submit, self.classes.blur, self.backbone.input], **looking)
        begun = {"fn": self.begin, "outputs": [self.start, self.stop, self.card], "js": _TO_RESULT, **_QUICK}
        run = {"fn": self.run, "inputs": asked, "outputs": shown, "preprocess": False, "show_progress_on": self.card}
        started = self.start.click(**begun).then(**run, **_RUN)
        tried = (
            self.try_it.click(
                self.take_example, None, [self.example, self.known, self.others, self.detector, self.classes], **_QUICK
            )
            .then(**looking)
            .then(**begun)
            .then(**run, **_RUN)
        )
        self.stop.click(self.halt, None, [self.start, self.stop, self.card], cancels=[started, tried], **_QUICK)
        page.unload(self.leave)
        page.load(self.open_link, None, self.detector, **_QUICK)
        tab = next(block for block in page.blocks.values() if isinstance(block, gr.Tab) and block.id == "evaluate")
        in_detect = next(block for block in page.blocks.values() if getattr(block, "elem_id", None) == "lsn-detector")
        owned = [self.owner] if self.owner else []
        tab.select(self.offer, [self.detector, in_detect, *owned], self.detector, **_QUICK)

    def open_link(self, request: gr.Request) -> str | UpdatesOrSkip:
        """What a link asks for: `?tab=evaluate&detector=imagenette`."""
        label = str(request.query_params.get("detector"))
        return label if label in self.store.detectors else gr.skip()

    def offer(self, chosen: str, in_detect: str, owner: str | None = None) -> UpdatesOrSkip:
        """The detectors to choose from: also those of this browser's jobs, and the one that Detect uses."""
        choices = [(label, label) for label in (ZERO_SHOT, *self.store.detectors)]
        if self.store.jobs and isinstance(owner, str) and owner:
            choices += [(f"{job.name} (my job)", self._lend(job)) for job in self.store.jobs.list(owner) if job.result]
        known = {value for _, value in choices}
        if in_detect and in_detect not in known:
            choices.append((self.called.setdefault(in_detect, "The one in Detect"), in_detect))
        return gr.update(choices=choices, value=chosen)

    def take_files(self, known: UploadedFiles, others: UploadedFiles, example: bool, *about: Value) -> Updates:
        """Whether the examples still are what is measured, and the class list."""
        example = example and not known and not others
        return {self.example: example, **self._class_list(known, about[0])}

    def _class_list(self, known: UploadedFiles, label: str) -> Updates:
        # The folders of the known photos, where they have some.
        try:
            images = open_known([file_of(item) for item in known or ()])
        except Problem:
            return {}  # the look that follows says why
        names = list(images.counts) if images and label == ZERO_SHOT else []
        return {self.classes: ", ".join(names)} if len(names) > 1 and not set(",;") & set("".join(names)) else {}

    def take_example(self) -> Updates:
        """The example photos, of which half are known."""
        return {
            self.example: True,
            self.known: None,
            self.others: None,
            self.detector: ZERO_SHOT,
            self.classes: EXAMPLE_CLASSES,
        }

    def choose_detector(
        self, known: UploadedFiles, others: UploadedFiles, example: bool, label: str, *about: Value
    ) -> Updates:
        """Shows the inputs that the chosen detector has a use for."""
        zero_shot = label == ZERO_SHOT
        found: Updates = {part: gr.update(visible=zero_shot) for part in (self.classes, self.backbone)}
        found[self.own_classes] = gr.update(visible=False)
        if zero_shot:
            for part, names in self._class_list(known, label).items():
                found[part] = gr.update(value=names, visible=True)
            return found
        try:
            names = ", ".join(self.store.detector(label)[0].class_names)
            found[self.own_classes] = gr.update(value=words.note(f"This detector knows: {names}."), visible=True)
        except UserError:
            pass  # the look that follows says why
        return found

    def look(
        self, known: UploadedFiles, others: UploadedFiles, example: bool, label: str, classes: str, backbone: str
    ) -> Updates:
        """What the files hold, before anything starts, and whether it fits the detector."""
        blank = {self.found: evaluate_words.found(None, []), self.start: gr.update(interactive=False)}
        try:
            judge, _ = open_judge(self.store, classes, label, backbone)
            inside, outside = self._sets(known, others, example, judge)
            blank[self.found] = evaluate_words.found(inside, outside)
            if inside and outside:
                check_sets(inside, outside, judge)
        except Problem as problem:
            return blank | self._said(problem)
        ready = gr.update(interactive=bool(inside and outside))
        return blank | self._said(None) | {self.start: ready}

    def begin(self) -> Updates:
        """The page while it measures."""
        return {
            self.start: gr.update(visible=False),
            self.stop: gr.update(visible=True),
            self.card: evaluate_words.at_work(),
        }

    def halt(self, request: gr.Request) -> Updates:
        """Stops what this page measures; what still waits for its turn is cancelled."""
        self.leave(request)
        return {**self._idle(), self.card: evaluate_words.stopped()}

    def leave(self, request: gr.Request) -> None:
        """A page that was closed needs no results."""
        if stop := self.stops.get(request.session_hash):
            stop.set()

    def run(
        self,
        known: UploadedFiles,
        others: UploadedFiles,
        example: bool,
        label: str,
        classes: str,
        backbone: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Updates:
        """Measures, and shows what came out."""
        stop = self.stops[request.session_hash] = threading.Event()

        def tell(done: int, total: int) -> None:
            if stop.is_set():
                raise _Stopped
            progress((done, total), desc="Reading the photos" if done < total else "Measuring", unit="photos")

        hidden = {part: gr.update(visible=False) for part in (self.table, self.links, self.figures)}
        try:
            judge, encoder = open_judge(self.store, classes, label, backbone)
            inside, outside = self._sets(known, others, example, judge)
            if not inside or not outside:
                raise Problem("others" if inside else "known", "Give photos here first.")
            report = measure(judge, encoder, inside, outside, self.cache, tell)
        except _Stopped:
            return {**hidden, **self._idle(), **self._said(None), self.card: evaluate_words.stopped()}
        except (Problem, UserError) as error:
            problem = error if isinstance(error, Problem) else Problem("model", str(error))
            return {**hidden, **self._idle(), **self._said(problem), self.card: evaluate_words.failed()}
        finally:
            self.stops.pop(request.session_hash, None)
        return {**self._idle(), **self._said(None), **self._results(report, self.called.get(label, label))}

    def _results(self, report: Report, name: str) -> Updates:
        evaluation, judge = report.evaluation, report.judge
        lines = {"keeps 95 % of these known photos": threshold_at_tpr(evaluation.known[OURS])}
        if judge.calibration is not None and math.isfinite(judge.threshold()):
            lines["the detector's own threshold"] = judge.threshold()
        scores = {name: found[OURS] for name, found in evaluation.others.items()}
        label = "score" if judge.score_name == "lsn" else f"score ({judge.score_name})"
        return {
            self.card: evaluate_words.result_card(report, name),
            self.table: gr.update(value=evaluate_words.table(report), visible=True),
            self.links: gr.update(value=evaluate_words.links(report), visible=True),
            self.figures: gr.update(visible=True),
            self.histograms: evaluate_plots.score_histograms(evaluation.known[OURS], scores, lines, label),
            self.roc: evaluate_plots.roc_curves(evaluation.known, evaluation.others),
        }

    def _sets(
        self, known: UploadedFiles, others: UploadedFiles, example: bool, judge: Detector
    ) -> tuple[ImageSet | None, list[ImageSet]]:
        if example:
            return split_examples(self.examples, judge.class_names)
        inside, outside = ([file_of(item) for item in files or ()] for files in (known, others))
        return open_known(inside), open_others(outside)

    def _lend(self, job: Job) -> str:
        assert self.store.jobs is not None
        if job.id not in self.lent:
            self.lent[job.id] = self.store.lend(self.store.jobs.result(job.id))
            self.called[self.lent[job.id]] = job.name
        return self.lent[job.id]

    def _idle(self) -> Updates:
        return {self.start: gr.update(visible=True), self.stop: gr.update(visible=False)}

    def _said(self, problem: Problem | None) -> Updates:
        return said(self.messages, _PLACES, problem)


def _heading(title: str) -> None:
    gr.HTML(f'<h3 class="lsn-heading">{title}</h3>')
