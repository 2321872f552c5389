"""All scores by name: what each is, where it comes from and what it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from torch import Tensor

from lsn_core.errors import UserError
from lsn_core.scores import clipn, matching
from lsn_core.scores import lsn as eqs
from lsn_core.scores.neglabel import log_mass
from lsn_core.scores.photos import KnownPhotos, Residual, knn, prototypes, vim

# The paper's test temperatures in units of its CLIP's own temperature, 0.01: τ = 1 and τ̄ = 5 (appendix D.0.2).
POSITIVE_UNITS, NEGATIVE_UNITS = 100.0, 500.0

BASELINE = "zero-shot-mcm"
"""What every other score has to beat."""

NEGATIVES, MEANS, PHOTOS, NOUNS = "negative prompts", "mean photos of the classes", "photos of the classes", "nouns"
UNITS = "units from folds of training photos"
BIAS = "a backbone with a logit bias, as SigLIP is"
"""What scores need beside class names."""


class Prompts(Protocol):
    """The part of a detector's prompts that scores need."""

    def cosines(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines of image features (N, D): positive (N, C) and negative (N, K, C)."""


class ScoreInputs:
    """What scores are made of, for N images; each part is computed when a score first asks for it.

    Args:
        features: of the images, shape (N, D), fp32, unit length.
        prompts: the detector's.
        written: gives text features of the hand-written positive prompts, shape (C, D).
        temperature: the backbone's own τ.
        nouns: gives text features of M nouns, shape (M, D).
        photos: of the known classes, or None.
        test_unit: what the test temperatures of Eqs. 12 and 13 are multiples of; None is `temperature`.
        bias: what a sigmoid backbone adds to cosines over τ; None for a softmax backbone.
    """

    def __init__(
        self,
        features: Tensor,
        prompts: Prompts,
        written: Callable[[], Tensor],
        temperature: float,
        nouns: Callable[[], Tensor],
        photos: KnownPhotos | None = None,
        test_unit: float | None = None,
        bias: float | None = None,
    ) -> None:
        self.features, self.prompts, self.temperature = features, prompts, temperature
        self.photos, self._written, self._nouns = photos, written, nouns
        self.test_unit, self._bias = temperature if test_unit is None else test_unit, bias

    @cached_property
    def _cosines(self) -> tuple[Tensor, Tensor]:
        return self.prompts.cosines(self.features)

    @property
    def positive(self) -> Tensor:
        """Cosines to the detector's positive prompts, shape (N, C)."""
        return self._cosines[0]

    @property
    def negative(self) -> Tensor:
        """Cosines to the detector's negative prompts, shape (N, K, C)."""
        return self._cosines[1]

    @cached_property
    def written_text(self) -> Tensor:
        """Text features of the hand-written positive prompts, shape (C, D)."""
        return self._written()

    @cached_property
    def written(self) -> Tensor:
        """Cosines to the hand-written positive prompts, shape (N, C)."""
        return self.features @ self.written_text.T

    @cached_property
    def nouns(self) -> Tensor:
        """Cosines to the nouns, shape (N, M)."""
        return self.features @ self._nouns().T

    @property
    def known_photos(self) -> KnownPhotos:
        """Photos of the known classes. Raises UserError where the detector has none."""
        if self.photos is None:
            raise UserError("This score needs photos of the known classes, and this detector keeps none.")
        return self.photos

    @property
    def bias(self) -> float:
        """Of a sigmoid backbone. Raises UserError where the backbone has none."""
        if self._bias is None:
            raise UserError("This score needs a backbone with a logit bias, such as SigLIP, and this one has none.")
        return self._bias

    @cached_property
    def residual(self) -> Residual:
        """What known photos say of an image outside their space; the same for all images."""
        photos = self.known_photos
        return Residual.of(photos, photos.features @ self.written_text.T / self.temperature)


Parts = dict[str, Tensor]
"""What adds up to a score, shape (N,) each, by what it speaks of: one of `TERMS`."""

MATCH, NO, WORLD, PHOTO = "match", "no", "world", "photos"
TERMS = {
    MATCH: "how well it fits the best class",
    NO: "what the negative prompts say",
    WORLD: "what else in the world it looks like",
    PHOTO: "how near it is to the photos of the classes",
}

Spread = tuple[float, float]
"""Mean and standard deviation of a score, or of a part of one, over photos of known classes."""

Units = Mapping[str, Mapping[str, Spread]]
"""Name of a single score -> part -> its `Spread`, that of the whole as `WHOLE`: what a sum is measured in."""

WHOLE = "score"


@dataclass(frozen=True)
class Score:
    """A registered score.

    Attributes:
        about: one line on what it is.
        source: equation or paper.
        parts: inputs -> what adds up to the score; None for a sum.
        needs: beside class names: some of NEGATIVES, MEANS, PHOTOS, NOUNS, UNITS and BIAS.
        min_classes: fewer classes than this tell it nothing.
        sum_of: names of the scores that it adds up, each in units of its spread; empty for a single score.
    """

    about: str
    source: str
    parts: Callable[[ScoreInputs], Parts] | None
    needs: frozenset[str] = frozenset()
    min_classes: int = 1
    sum_of: tuple[str, ...] = ()


def _neglabel(x: ScoreInputs, classes: Tensor) -> Parts:
    return {MATCH: log_mass(classes, x.temperature), WORLD: -log_mass(x.nouns, x.temperature)}


def _difference(x: ScoreInputs) -> Parts:
    return dict(zip((MATCH, NO), eqs.difference(x.positive, x.negative), strict=True))


def _vim(x: ScoreInputs) -> Parts:
    logits = x.written / x.temperature
    energy = logits.logsumexp(dim=-1)
    return {MATCH: energy, PHOTO: vim(x.features, logits, x.residual) - energy}


def _mcm(x: ScoreInputs, cosines: Tensor) -> Parts:
    return {MATCH: matching.mcm(cosines, POSITIVE_UNITS * x.test_unit)}


def _min_cm(x: ScoreInputs, units: float = NEGATIVE_UNITS) -> Parts:
    return {NO: -eqs.min_cm(x.negative, units * x.test_unit)}


_MING, _LSN = "Ming et al., 2022", "the LSN paper"
_LEARNED = frozenset({NEGATIVES})
_NOUNS, _PHOTOS = frozenset({NOUNS}), frozenset({PHOTOS})

SCORES: dict[str, Score] = {
    BASELINE: Score(
        "maximum concept matching on hand-written prompts",
        _MING,
        lambda x: _mcm(x, x.written),
        min_classes=2,
    ),
    "mcm": Score(
        "maximum concept matching on the detector's positive prompts",
        _MING,
        lambda x: _mcm(x, x.positive),
        min_classes=2,
    ),
    "max-cosine": Score(
        "largest cosine to a class", "Hendrycks et al., 2022", lambda x: {MATCH: matching.max_cosine(x.positive)}
    ),
    "sigmoid": Score(
        "the probability that the best class is there, whatever the other classes are, on hand-written prompts",
        "SigLIP, Zhai et al., 2023",
        lambda x: {MATCH: matching.match_probability(x.written, x.temperature, x.bias)},
        frozenset({BIAS}),
    ),
    "lsn": Score(
        "MCM minus MinCM",
        f"{_LSN}, Eq. 14",
        lambda x: _mcm(x, x.positive) | _min_cm(x),
        _LEARNED,
        min_classes=2,
    ),
    "lsn-eq9": Score(
        "MCM minus MinCM at one temperature",
        f"{_LSN}, Eq. 9",
        lambda x: _mcm(x, x.positive) | _min_cm(x, POSITIVE_UNITS),
        _LEARNED,
        min_classes=2,
    ),
    "lsn-reference": Score(
        "MCM plus the largest refusal",
        "the LSN authors' code",
        lambda x: _mcm(x, x.positive) | {NO: eqs.max_refusal(x.negative, NEGATIVE_UNITS * x.test_unit)},
        _LEARNED,
        min_classes=2,
    ),
    "negatives-only": Score(
        "minus MinCM: no positive prompts",
        f"{_LSN}, Eq. 13",
        lambda x: _min_cm(x),
        _LEARNED,
        min_classes=2,
    ),
    "difference": Score(
        "largest cosine to a class less that to its negative prompts", "this project", _difference, _LEARNED
    ),
    "clipn-ctw": Score(
        "how little the best class is denied",
        "CLIPN, Wang et al., 2023",
        lambda x: {NO: clipn.competing_to_win(x.positive, x.negative, x.temperature)},
        _LEARNED,
    ),
    "clipn-atd": Score(
        "the probability left when each class is denied by its negative prompts",
        "CLIPN, Wang et al., 2023",
        lambda x: {NO: clipn.agreeing_to_differ(x.positive, x.negative, x.temperature)},
        _LEARNED,
    ),
    "neglabel": Score(
        "the classes, in hand-written prompts, against nouns",
        "Jiang et al., 2024",
        lambda x: _neglabel(x, x.written),
        _NOUNS,
    ),
    "prototypes": Score(
        "neglabel with each class as its text and its mean photo",
        "this project",
        lambda x: _neglabel(x, x.features @ prototypes(x.written_text, x.known_photos).T),
        frozenset({NOUNS, MEANS}),
    ),
    "knn": Score(
        "nearness to the tenth nearest photo of the classes",
        "Sun et al., 2022",
        lambda x: {PHOTO: knn(x.features, x.known_photos)},
        _PHOTOS,
    ),
    "vim": Score(
        "energy less what lies outside the space of the photos",
        "Wang et al., 2022",
        _vim,
        _PHOTOS,
    ),
    "neglabel-lsn": Score(
        "the classes against nouns, and against their learned negatives",
        "this project",
        None,
        _LEARNED | _NOUNS | {UNITS},
        sum_of=("neglabel", "difference"),
    ),
    "prototypes-vim": Score(
        "the classes, as text and mean photo, against nouns, and what lies outside the space of the photos",
        "this project",
        None,
        frozenset({NOUNS, MEANS, PHOTOS, UNITS}),
        sum_of=("prototypes", "vim"),
    ),
    "fusion": Score(
        "the paper's score, the classes as text and mean photo against nouns, and what lies outside the photos' space",
        "this project",
        None,
        frozenset({NEGATIVES, NOUNS, MEANS, PHOTOS, UNITS}),
        min_classes=2,
        sum_of=("lsn", "prototypes", "vim"),
    ),
}
"""By name, in the order of the help texts."""


def get_score(name: str) -> Score:
    """The registered score of that name; a UserError lists the known ones."""
    if name not in SCORES:
        raise UserError(f"No score is called {name[:60]!r}. Known scores: {', '.join(SCORES)}.")
    return SCORES[name]


def score_parts(name: str, inputs: ScoreInputs, units: Units) -> Parts:
    """What adds up to a registered score of N images.

    Args:
        units: of the scores that a sum adds up; a single score needs none.

    Returns:
        One or more of `TERMS` -> shape (N,). Each score of a sum is in units of its spread, its mean being 0.

    Raises:
        UserError: no such score, or a sum without units.
    """
    score = get_score(name)
    if score.parts is not None:
        return score.parts(inputs)
    added: Parts = {}
    for term in score.sum_of:
        parts = score_parts(term, inputs, units)
        if not {WHOLE, *parts} <= set(units.get(term, ())):
            raise UserError(
                f"The score {name!r} adds up scores in units of their spread, and that of {term!r} is missing."
            )
        spread = max(units[term][WHOLE][1], 1e-12)
        for part, values in parts.items():
            standard = (values - units[term][part][0]) / spread
            added[part] = added[part] + standard if part in added else standard
    return added


def total(parts: Parts) -> Tensor:
    """The score that its parts add up to, shape (N,)."""
    first, *rest = parts.values()
    return sum(rest, first)


def spreads(parts: Parts) -> dict[str, Spread]:
    """Mean and standard deviation of each part over N images, and of the score that they add up to as `WHOLE`."""
    columns = {WHOLE: total(parts), **parts}
    return {name: (float(v.double().mean()), float(v.double().std(correction=0))) for name, v in columns.items()}


def usable_scores(classes: int, has: frozenset[str]) -> list[str]:
    """Names of the scores that can serve so many classes with what there is of the things that scores need."""
    return [name for name, score in SCORES.items() if score.min_classes <= classes and score.needs <= has]


def check_usable(name: str, classes: int, has: frozenset[str]) -> None:
    """Raises UserError unless the score can serve, as `usable_scores` has it; the sentence says which can."""
    score = get_score(name)
    missing = sorted(score.needs - has)
    if classes >= score.min_classes and not missing:
        return
    why = f"needs {' and '.join(missing)}, which this detector does not have" if missing else "compares classes"
    if not missing:
        why += ", and there is only one"
    raise UserError(f"The score {name!r} {why}. Scores that can serve: {', '.join(usable_scores(classes, has))}.")
