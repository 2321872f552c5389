"""The Evaluate tab: how well a detector tells photos of its classes from others, beside MCM on the same photos."""

from __future__ import annotations

import math
import tempfile
import threading
from pathlib import Path

import gradio as gr

from lsn_app.evaluate import plots as evaluate_plots
from lsn_app.evaluate import words as evaluate_words
from lsn_app.evaluate.answer import OURS, EvaluateRequest, Report, check_sets, measure
from lsn_app.evaluate.results_browser import BenchmarkBrowser
from lsn_app.evaluate.steps_panel import EXAMPLE_CLASSES, StepsPanel
from lsn_app.serving.requests import ZERO_SHOT, Place, Problem, open_detector
from lsn_app.shared import words
from lsn_app.shared.components import EventOptions, Updates, UpdatesOrSkip, Values
from lsn_app.shared.examples import load_examples
from lsn_app.shared.messages import plot_title, tell
from lsn_app.shared.shared import Shared, detector_choices
from lsn_app.shared.turns import Turns
from lsn_app.shared.uploads import open_known
from lsn_core import UserError
from lsn_core.class_names import join_class_names
from lsn_core.metrics import threshold_at_tpr

# On a phone the result is far from the button that asks for it.
_TO_RESULT = """() => {
    document.querySelector("#eval-card").scrollIntoView({ block: "nearest", behavior: "smooth" });
    return [];
}"""
_PLACES: tuple[Place, ...] = ("classes", "model", "known", "others")
_QUICK: EventOptions = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
_INSPECT: EventOptions = {"concurrency_id": "jobs", "concurrency_limit": 2, "api_visibility": "private"}
# One at a time: two would only halve each other's speed, and Detect is to answer meanwhile.
_RUN: EventOptions = {"concurrency_id": "evaluate", "concurrency_limit": 1, "api_visibility": "private"}


def build(shared: Shared) -> None:
    """Fills the tab."""
    _EvaluateTab(shared).connect()


class _Stopped(Exception):
    pass


class _EvaluateTab:
    """The tab's components, and the functions that its events call."""

    def __init__(self, shared: Shared) -> None:
        self.shared, self.store = shared, shared.store
        self.examples = load_examples()
        self.stops: dict[str | None, threading.Event] = {}  # by session, while it measures
        self.turns = Turns()
        self.cache = self.store.jobs.files.cache if self.store.jobs else Path(tempfile.mkdtemp(prefix="lsn-features-"))
        gr.Markdown(
            "How well does a detector tell photos of its classes from photos of other things? Give some of both, and "
            "see it beside MCM, the usual way to do without learning."
        )
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                self.steps = StepsPanel(self.store, bool(self.examples))
            with gr.Column(scale=3, min_width=300):
                self.steps.build_start()
                self.card = gr.HTML(evaluate_words.nothing_yet(), elem_id="eval-card")
                self.keep = gr.Button(
                    "Use the hand-written prompts in Detect", size="sm", visible=False, elem_id="eval-keep"
                )
                self.class_names = gr.State(())  # of the detector that was measured
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

    # -- events -------------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Connects the components to what they ask for."""
        steps, page = self.steps, self.shared.page
        messages = list(steps.messages.values())
        results = [
            self.card,
            self.keep,
            self.class_names,
            self.table,
            self.links,
            self.figures,
            self.histograms,
            self.roc,
            steps.start,
            steps.stop,
            *messages,
        ]
        asked: EventOptions = {"inputs": steps.inputs, "preprocess": False}
        inspecting: EventOptions = {
            "fn": self.inspect,
            "outputs": [steps.contents, steps.start, *messages],
            "trigger_mode": "always_last",
            **asked,
            **_INSPECT,
        }
        for files in (steps.known, steps.others):
            taken = files.change(self.take_files, outputs=[steps.example, steps.classes], **asked, **_QUICK)
            taken.then(**inspecting)
        chosen = [steps.classes, steps.own_classes, steps.backbone]
        steps.detector.change(self.choose_detector, outputs=chosen, **asked, **_QUICK).then(**inspecting)
        gr.on([steps.classes.submit, steps.classes.blur, steps.backbone.input], **inspecting)
        begun: EventOptions = {
            "fn": self.begin,
            "outputs": [steps.start, steps.stop, self.card],
            "js": _TO_RESULT,
            **_QUICK,
        }
        given = {**asked, "inputs": {self.shared.owner, *steps.inputs}}
        run: EventOptions = {"fn": self.run, "outputs": results, "show_progress_on": self.card, **given, **_RUN}
        started = steps.start.click(**begun).then(**run)
        example = [steps.example, steps.known, steps.others, steps.detector, steps.classes]
        tried = steps.try_it.click(self.take_example, None, example, **_QUICK).then(**inspecting)
        tried = tried.then(**begun).then(**run)
        idle = [steps.start, steps.stop, self.card]
        steps.stop.click(self.halt, None, idle, cancels=[started, tried], **_QUICK)
        shared = self.shared
        kept = [shared.classes, shared.detector, shared.tabs]
        self.keep.click(shared.names_alone_in_detect, self.class_names, kept, **_QUICK)
        page.unload(self.leave)
        page.load(self.open_link, None, steps.detector, **_QUICK)
        self.shared.tab.select(self.offer, [steps.detector, self.shared.owner], steps.detector, **_QUICK)

    def open_link(self, request: gr.Request) -> str | UpdatesOrSkip:
        """What a link asks for: `?tab=evaluate&detector=imagenette`."""
        label = str(request.query_params.get("detector"))
        return label if label in self.store.detectors else gr.skip()

    def offer(self, chosen: str, owner: str | None, request: gr.Request) -> UpdatesOrSkip:
        """The detectors to choose from: also what this visitor uploaded and trained."""
        return gr.update(choices=detector_choices(self.store, request.session_hash, owner), value=chosen)

    def take_files(self, values: Values) -> Updates:
        """Whether the examples still are what is measured, and the class list."""
        request = self.steps.read(values)
        example = request.example and not request.known and not request.others
        return {self.steps.example: example, **self._class_list(request)}

    def _class_list(self, request: EvaluateRequest) -> Updates:
        # The folders of the known photos, where they have some.
        try:
            images = open_known(request.known)
        except Problem:
            return {}  # the inspection that follows says why
        names = list(dict.fromkeys(images.classes or ())) if images and request.detector.label == ZERO_SHOT else []
        return {self.steps.classes: join_class_names(names)} if len(names) > 1 else {}

    def take_example(self) -> Updates:
        """The example photos, of which half are known."""
        return {
            self.steps.example: True,
            self.steps.known: None,
            self.steps.others: None,
            self.steps.detector: ZERO_SHOT,
            self.steps.classes: EXAMPLE_CLASSES,
        }

    def choose_detector(self, values: Values) -> Updates:
        """Shows the inputs that the chosen detector has a use for."""
        steps, request = self.steps, self.steps.read(values)
        label = request.detector.label
        zero_shot = label == ZERO_SHOT
        updates: Updates = {part: gr.update(visible=zero_shot) for part in (steps.classes, steps.backbone)}
        updates[steps.own_classes] = gr.update(visible=False)
        if zero_shot:
            for part, names in self._class_list(request).items():
                updates[part] = gr.update(value=names, visible=True)
            return updates
        try:
            names = ", ".join(self.store.detector(label)[0].class_names)
            updates[steps.own_classes] = gr.update(value=words.note(f"This detector knows: {names}."), visible=True)
        except UserError:
            pass  # the inspection that follows says why
        return updates

    def inspect(self, values: Values, session: gr.Request) -> UpdatesOrSkip:
        """What the files hold, before anything starts, and whether it fits the detector."""
        question = self.turns.ask(session.session_hash, "files")
        return question.unless_over(self._inspect(values))

    def _inspect(self, values: Values) -> Updates:
        steps, request = self.steps, self.steps.read(values)
        updates: Updates = {
            steps.contents: evaluate_words.contents(None, []),
            steps.start: gr.update(interactive=False),
        }
        try:
            detector, _ = open_detector(self.store, request.detector)
            known, others = request.open_sets(self.examples, detector)
            updates[steps.contents] = evaluate_words.contents(known, others)
            if known and others:
                check_sets(known, others, detector)
        except Problem as problem:
            return updates | self._tell(problem)
        return updates | self._tell(None) | {steps.start: gr.update(interactive=bool(known and others))}

    def begin(self) -> Updates:
        """The page while it measures."""
        return {
            self.steps.start: gr.update(visible=False),
            self.steps.stop: gr.update(visible=True),
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
        values: Values,
        session: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Updates:
        """Measures, and shows what came out."""
        request = self.steps.read(values)
        stop = self.stops[session.session_hash] = threading.Event()

        def advance(done: int, total: int) -> None:
            if stop.is_set():
                raise _Stopped
            progress((done, total), desc="Reading the photos" if done < total else "Measuring", unit="photos")

        hidden = {part: gr.update(visible=False) for part in (self.keep, self.table, self.links, self.figures)}
        try:
            detector, encoder = open_detector(self.store, request.detector)
            known, others = request.open_sets(self.examples, detector)
            if not known or not others:
                raise Problem("others" if known else "known", "Give photos here first.")
            report = measure(detector, encoder, known, others, self.cache, advance)
        except _Stopped:
            return {**hidden, **self._idle(), **self._tell(None), self.card: evaluate_words.stopped()}
        except (Problem, UserError) as error:
            problem = error if isinstance(error, Problem) else Problem("model", str(error))
            return {**hidden, **self._idle(), **self._tell(problem), self.card: evaluate_words.failed()}
        finally:
            self.stops.pop(session.session_hash, None)
        titles = detector_choices(
            self.store, session.session_hash, values[self.shared.owner], names_alone="Names alone"
        )
        title = {label: title for title, label in titles}.get(request.detector.label, "This detector")
        return {**self._idle(), **self._tell(None), **self._results(report, title)}

    def _results(self, report: Report, name: str) -> Updates:
        evaluation, detector = report.evaluation, report.detector
        lines = {"keeps 95 % of these known photos": threshold_at_tpr(evaluation.known[OURS])}
        if detector.calibration is not None and math.isfinite(detector.threshold()):
            lines["the detector's own threshold"] = detector.threshold()
        scores = {name: by_method[OURS] for name, by_method in evaluation.others.items()}
        label = "score" if detector.score_name == "lsn" else f"score ({detector.score_name})"
        return {
            self.card: evaluate_words.result_card(report, name),
            self.keep: gr.update(visible=evaluate_words.is_worse(report)),
            self.class_names: detector.class_names,
            self.table: gr.update(value=evaluate_words.table(report), visible=True),
            self.links: gr.update(value=evaluate_words.links(report), visible=True),
            self.figures: gr.update(visible=True),
            self.histograms: evaluate_plots.score_histograms(evaluation.known[OURS], scores, lines, label),
            self.roc: evaluate_plots.roc_curves(evaluation.known, evaluation.others),
        }

    def _idle(self) -> Updates:
        return {self.steps.start: gr.update(visible=True), self.steps.stop: gr.update(visible=False)}

    def _tell(self, problem: Problem | None) -> Updates:
        return tell(self.steps.messages, _PLACES, problem)
