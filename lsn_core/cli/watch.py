"""The command `watch`."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import Enum
from pathlib import Path
from threading import Event, current_thread, main_thread
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lsn_core.cli.options import (
    BackboneOption,
    ClassesFileOption,
    ClassesOption,
    DeviceOption,
    JsonOption,
    calibrated,
    class_list,
    open_detector,
)
from lsn_core.cli.output import echo, echo_json
from lsn_core.errors import UserError

if TYPE_CHECKING:
    from lsn_core.detector.detector import Detector
    from lsn_core.monitoring.windows import Monitor, Window

_BATCH = 64
_ALARM = 3
_BARS = "▁▂▃▄▅▆▇█"
Arrival = tuple[datetime, dict[str, Any]]


class Per(str, Enum):
    """How long a window is."""

    HOUR = "hour"
    DAY = "day"


def watch(
    source: Annotated[
        Path,
        typer.Argument(
            help="A folder that photos come into, a .jsonl file of verdicts (of `score --out` or `score --json`), or - "
            "for such lines on standard input."
        ),
    ],
    detector: Annotated[
        Path | None, typer.Option(help="The detector file (.safetensors), or hf-hub:ORG/NAME; a calibrated one.")
    ] = None,
    classes: ClassesOption = None,
    classes_file: ClassesFileOption = None,
    calibrate: Annotated[
        Path | None, typer.Option(help="Photos of the known classes to calibrate the detector with, as for score.")
    ] = None,
    usual: Annotated[
        Path | None,
        typer.Option(help="Verdicts (.jsonl) of a usual time: compare with those instead of the calibration photos."),
    ] = None,
    per: Annotated[Per, typer.Option(help="What is counted together.")] = Per.HOUR,
    false_alarm: Annotated[
        float, typer.Option(help="Chance that there is ever an alarm while nothing changes.")
    ] = 0.01,
    tpr: Annotated[float, typer.Option(help="Share of known images to keep, as for score; of a folder.")] = 0.95,
    once: Annotated[bool, typer.Option("--once", help="End with what is in the folder now.")] = False,
    poll: Annotated[float, typer.Option(help="Seconds between two looks into the folder.")] = 5.0,
    page: Annotated[
        Path | None, typer.Option(help="HTML file with the curves, written anew with each hour or day.")
    ] = None,
    backbone: BackboneOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Watch what comes in: the share of unknown photos, their p-values, and an alarm when they change.

    A photo's time is the `time` of its line, or else the last change of its file. Photos that are in the folder already
    come first. Ctrl-C ends it with the last hour or day. The exit code is 3 after an alarm. What the alarm promises and
    what not stands in docs/labelling-and-monitoring.md.
    """
    from lsn_core.monitoring.page import check_page
    from lsn_core.monitoring.windows import Monitor

    if page is not None:
        check_page(page)
    if not 0.0 < poll < float("inf"):
        raise UserError(f"--poll is a number of seconds above 0, not {poll}.")
    if not source.is_dir() and str(source) != "-" and not source.is_file():
        raise UserError(f"There is no {source}. Name a folder of photos, a .jsonl file of verdicts, or -.")
    scorer = open_detector(detector, class_list(classes, classes_file), backbone, device)
    if calibrate is not None:
        scorer = calibrated(scorer, calibrate)
    if scorer.calibration is None:
        raise UserError(
            "The detector is not calibrated, so there are no p-values to watch. "
            "Give --calibrate a folder of photos of its classes."
        )
    reference = None if usual is None else _usual(usual, scorer.score_name)
    monitor = Monitor(scorer.calibration, scorer.score_name, per.value, false_alarm, reference)
    folder = source.is_dir()
    where = "standard input" if str(source) == "-" else source.name
    report = _Report(monitor, page, f"{where}, watched with {detector.stem if detector else 'names'}", as_json)
    with interruptible() as stopped:
        try:
            for batch in _folder(source, scorer, tpr, None if once else poll) if folder else _verdicts(source):
                report.take(batch, live=str(source) == "-" or (folder and not once))
                if stopped.is_set():
                    break
        except KeyboardInterrupt:
            pass
    report.end()
    if monitor.alarm is not None:
        raise typer.Exit(_ALARM)


@contextmanager
def interruptible() -> Iterator[Event]:
    """Set by Ctrl-C beside the exception that it raises, as Python drops one that comes while an object is deleted."""
    told = Event()
    if current_thread() is not main_thread():
        yield told
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        told.set()
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield told
    finally:
        signal.signal(signal.SIGINT, before)


def _folder(folder: Path, scorer: Detector, tpr: float, poll: float | None) -> Iterator[list[Arrival]]:
    """Verdicts on new photos for ever, and an empty list after each look; or once, where `poll` is None."""
    from lsn_core.data.collection import list_files
    from lsn_core.monitoring.arrivals import Inbox, by_hours

    inbox = Inbox(folder)
    while True:
        arrivals = by_hours(inbox.new(settled=poll is None))
        for start in range(0, len(arrivals), _BATCH):
            times, paths = zip(*arrivals[start : start + _BATCH], strict=True)
            predictions = scorer.predict(list_files(paths), tpr)
            lines = [{"file": str(path), **found.as_dict()} for path, found in zip(paths, predictions, strict=True)]
            yield list(zip(times, lines, strict=True))
        if poll is None:
            return
        yield []
        time.sleep(poll)


def _verdicts(source: Path) -> Iterator[list[Arrival]]:
    """Those of a file at once and by their times, or of standard input as they come."""
    from lsn_core.monitoring.arrivals import by_hours, read_verdicts, time_of

    if str(source) == "-":
        for _, line in read_verdicts(sys.stdin, "standard input"):
            yield [(time_of(line) or datetime.now().astimezone(), line)]
        return
    arrivals = []
    for number, line in read_verdicts(_lines(source), str(source)):
        when = time_of(line)
        if when is None:
            raise UserError(
                f"{source}, line {number}: when the photo was taken is not known: the line has no `time`, and its file "
                'is not there. Add "time": "2026-05-01T09:30:00" to each line.'
            )
        arrivals.append((when, line))
    yield by_hours(arrivals)


def _lines(path: Path) -> Iterable[str]:
    try:
        with open(path, encoding="utf-8") as file:
            yield from file
    except OSError as error:
        raise UserError(f"{path}: the file cannot be read ({error.strerror}). Check the path.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: this is no text. Name a .jsonl file of verdicts.") from error


def _usual(path: Path, score_name: str) -> list[float]:
    from lsn_core.monitoring.arrivals import read_verdicts
    from lsn_core.monitoring.windows import check_score

    scores = []
    for number, line in read_verdicts(_lines(path), str(path)):
        if line.get("error") is None:
            try:
                scores.append(check_score(line, score_name))
            except UserError as error:
                raise UserError(f"{path}, line {number}: {error}") from error
    return scores


class _Report:
    """Prints each window when the next one begins, the alarm at once, and writes the page."""

    def __init__(self, monitor: Monitor, page: Path | None, title: str, as_json: bool) -> None:
        self._monitor, self._page, self._title, self._as_json = monitor, page, title, as_json
        self._printed = 0

    def take(self, batch: list[Arrival], live: bool) -> None:
        """Counts these; an open window ends, too, when the clock says so."""
        from lsn_core.monitoring.windows import window_start

        monitor = self._monitor
        for when, line in batch:
            try:
                raised = monitor.add(when, line)
            except UserError as error:
                raise UserError(f"{line.get('file', 'A line')}: {error}") from error
            if raised:
                self._print(monitor.windows[-1], closed=False)
                echo(f"ALARM {_alarm(monitor)}", err=True)
                self._draw(live)
            self._close(len(monitor.windows) - 1, live)
        now = window_start(datetime.now().astimezone(), monitor.period)
        if live and not batch and monitor.windows and now > monitor.windows[-1].start:
            monitor.close()
            self._close(len(monitor.windows), live)

    def end(self) -> None:
        """Prints the last window."""
        self._close(len(self._monitor.windows), live=False)
        self._draw(live=False)
        if not self._as_json and self._monitor.alarm is None:
            echo("No alarm." if self._monitor.windows else "No photo came.", err=True)

    def _close(self, count: int, live: bool) -> None:
        for window in self._monitor.windows[self._printed : count]:
            self._print(window, closed=True)
            self._printed += 1
            if live:
                self._draw(live)

    def _draw(self, live: bool) -> None:
        from lsn_core.monitoring.page import write_page

        if self._page is not None:
            monitor = self._monitor
            write_page(self._page, monitor.windows, monitor.level, monitor.alarm, self._title, live)

    def _print(self, window: Window, closed: bool) -> None:
        if self._as_json:
            echo_json(as_line(window, closed))
        elif closed:
            if not self._printed:
                echo(f"{'from':16} {'photos':>7} {'unknown':>8} {'share':>7}  {'p-values 0..1':13} {'evidence':>9}")
            echo(describe(window))


def as_line(window: Window, closed: bool) -> dict[str, Any]:
    """A line for programs."""
    return {
        "from": window.start.isoformat(),
        "photos": window.photos,
        "unknown": window.unknown,
        "share_unknown": window.share_unknown,
        "unreadable": window.unreadable,
        "p_values": window.p_values,
        "evidence": window.evidence,
        "highest_evidence": window.highest,
        "alarm": window.alarm.isoformat() if window.alarm else None,
        "closed": closed,
    }


def describe(window: Window) -> str:
    """A line for people; the p-values are ten bars, of which the fullest is full."""
    most = max(window.p_values) or 1
    bars = "".join(_BARS[round(count / most * (len(_BARS) - 1))] for count in window.p_values)
    share = "" if window.share_unknown is None else f"{window.share_unknown:.1%}"
    notes = [f"{window.unreadable} unreadable"] if window.unreadable else []
    notes += [f"ALARM {window.alarm:%H:%M}"] if window.alarm else []
    return (
        f"{window.start:%Y-%m-%d %H:%M} {window.photos:7} {window.unknown:8} {share:>7}  {bars:13} "
        f"{window.highest or window.evidence:9.3g}  {', '.join(notes)}"
    ).rstrip()


def _alarm(monitor: Monitor) -> str:
    return (
        f"{monitor.alarm:%Y-%m-%d %H:%M}: new photos are not like those they are compared with. (While they are, the "
        f"chance that an alarm ever comes is {1 / monitor.level:g} at most.) If they are right, calibrate anew."
    )
