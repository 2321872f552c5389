"""Hand-written prompts: templates, the article that a name asks for, negations and class names."""

from __future__ import annotations

import re

from lsn_core.errors import UserError

POSITIVE_TEMPLATE = "a photo of a {}"
NEGATIVE_TEMPLATE = "not a photo of a {}"
NEGATIONS = (NEGATIVE_TEMPLATE, "a photo with no {}", "a photo without a {}", "anything but a {}")
_ARTICLE = re.compile(r"\ban? \{\}", re.IGNORECASE)
# Spoken with a vowel first: vowels but "you" and "w" sounds, a silent h, and letters read by their names ("an X-ray").
_VOWEL = re.compile(
    r"(?!eu|ewe|one\b|once|u[bfknst][aeiouy]|ura|uro)[aeiou]|hour|heir|honest|honou?r|[fhlmnrsx]\b", re.I
)


def fill(template: str, name: str) -> str:
    """A prompt in words: "a photo of a {}" and "elephant" -> "a photo of an elephant".

    Raises:
        UserError: the template does not hold {} once.
    """
    if template.count("{}") != 1:
        raise UserError(f"The prompt template {template[:60]!r} must hold {{}} once, where the class name goes.")
    article = "an {}" if _VOWEL.match(name) else "a {}"
    return _ARTICLE.sub(lambda match: match[0][0] + article[1:], template).replace("{}", name)


def negate(text: str) -> str:
    """Puts "not" before a text, or takes it away: what the paper's Figure 4 does to the text that lost."""
    return text[4:] if text.lower().startswith("not ") else f"not {text}"
