"""What came of an input, whether that is right, and what it cost."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.corpus.case import Case, Right
from tests.corpus.images import Pixels

MOST_SECONDS = 10.0  # of CPU time for one input
MOST_BYTES = 400 * 2**20  # above what the program takes before
_LONGEST = 1000
_UNCLEAR = re.compile(r"Traceback|\.py\"|[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True)
class Refused:
    """What was said in place of a value."""

    sentence: str


@dataclass(frozen=True)
class Result:
    """One input in one way.

    Attributes:
        case: the input.
        way: "library", "command line" or "app".
        problem: what is wrong with what came of it; empty where nothing is.
        seconds: of CPU time.
        memory: bytes at most, above those before.
    """

    case: Case
    way: str
    problem: str
    seconds: float = 0.0
    memory: int = 0


def problem_of(case: Case, outcome: Any) -> str:
    """What is wrong with an outcome: a value, `Refused`, or an exception. Empty where nothing is."""
    if isinstance(outcome, BaseException):
        return f"{type(outcome).__name__}: {str(outcome)[:200]}"
    if isinstance(outcome, Refused):
        if case.right not in (Right.SENTENCE, Right.EITHER):
            return f"refused: {outcome.sentence[:200]}"
        return unclear(outcome.sentence)
    if case.right is Right.SENTENCE:
        return f"taken: {str(outcome)[:200]}"
    return "" if case.right is Right.EITHER else differs(case.right, outcome)


def unclear(sentence: str) -> str:
    """Why a text is not one clear sentence; empty where it is."""
    if not sentence or len(sentence) > _LONGEST:
        return f"a sentence of {len(sentence)} letters"
    if match := _UNCLEAR.search(sentence):
        return f"{match[0]!r} in the sentence {sentence[:200]!r}"
    return "" if sentence.rstrip().endswith((".", ")", "'", "?")) else f"no whole sentence: {sentence[-200:]!r}"


def differs(right: Any, found: Any) -> str:
    """How a value differs from the right one; empty where it does not."""
    if isinstance(right, Pixels) and not isinstance(found, str):
        values = np.asarray(found)
        if values.shape != right.values.shape:
            return f"shape {values.shape}, not {right.values.shape}"
        far = int(np.abs(values.astype(int) - right.values).max(initial=0))
        return f"pixels differ by {far}" if far > right.tolerance else ""
    return "" if found == right else f"{str(found)[:200]}, not {str(right)[:200]}"


def measured(case: Case, way: str, run: Callable[[Case], Any], process: int | str = "self") -> Result:
    """Runs a case and measures a process: what came of it, CPU time and memory are held against what is right.

    Args:
        run: gives the outcome; a UserError is to be a `Refused` already.
        process: which one is measured.
    """
    about = Path(f"/proc/{process}")
    before = _memory(about, "VmRSS", anew=True)
    begun = _seconds(about)
    try:
        outcome = run(case)
    except Exception as error:
        outcome = error
    seconds, memory = _seconds(about) - begun, max(0, _memory(about, "VmHWM") - before)
    problem = problem_of(case, outcome)
    if not problem and seconds > MOST_SECONDS:
        problem = f"{seconds:.1f} s"
    if not problem and memory > MOST_BYTES:
        problem = f"{memory >> 20} MiB"
    return Result(case, way, problem, seconds, memory)


def _seconds(about: Path) -> float:
    """CPU time of a process; of this one where the system does not tell of others."""
    try:
        fields = (about / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return time.process_time()
    return (int(fields[11]) + int(fields[12])) / 100


def _memory(about: Path, what: str, anew: bool = False) -> int:
    """Bytes of a process; 0 where the system does not tell."""
    try:
        if anew:
            (about / "clear_refs").write_text("5")
        (line,) = [line for line in (about / "status").read_text().splitlines() if line.startswith(f"{what}:")]
    except (OSError, ValueError):
        return 0
    return int(line.split()[1]) * 1024
