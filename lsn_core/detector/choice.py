"""Which score gives a detector's verdicts, and what it was chosen by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lsn_core.errors import UserError


@dataclass(frozen=True)
class Choice:
    """How candidate scores did at telling known classes from hidden ones, in folds over the training photos.

    Attributes:
        score: the one that was chosen.
        folds: candidate -> "auroc" and "fpr95", the mean over the folds, and "lead", "lead_low", "lead_high": its AUROC
            less that of zero-shot MCM and that lead's 95 % interval over draws of photos; all in [-1, 1].
        hidden: for each fold, the classes that were hidden.
        learning_helps: whether the chosen score uses what was learned.
        reason: one sentence.
    """

    score: str
    folds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    hidden: tuple[tuple[str, ...], ...] = ()
    learning_helps: bool = True
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is the way back."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Any) -> Choice | None:
        """The choice of these values; None of None. Raises UserError for wrong ones."""
        if values is None:
            return None
        try:
            folds = {str(k): {str(m): float(v) for m, v in row.items()} for k, row in values["folds"].items()}
            hidden = tuple(tuple(map(str, names)) for names in values["hidden"])
            return Choice(str(values["score"]), folds, hidden, bool(values["learning_helps"]), str(values["reason"]))
        except (TypeError, KeyError, ValueError, AttributeError, OverflowError) as error:
            raise UserError(f"the table of its folds is damaged ({error!r}).") from error
