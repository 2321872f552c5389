"""Class lists, from a neat one to a megabyte of brackets, and names of files; a list's names must come out."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from tests.corpus.case import Case, Right
from tests.corpus.images import Pixels
from tests.corpus.pictures import encoded, noise

HOSTILE = {
    "a script": "<script>alert(1)</script>",
    "an image": "<img src=x onerror=alert(1)>",
    "a closed attribute": '"><svg onload=alert(1)>',
    "an entity": "&lt;b&gt; &amp; &#x3c;",
    "markdown": "[click](javascript:alert(1)) ![x](http://127.0.0.1/x)",
    "a template": "{{7*7}} ${7*7} #{7*7} <%= 7*7 %>",
    "braces": "{}",
    "a numbered brace": "{0.__class__}",
    "a percent": "%s %n %(x)s",
    "a formula": "=cmd|' /C calc'!A0",
    "a formula of plus": "+1+1",
    "a formula of minus": "-1+1",
    "a formula of at": "@SUM(1+1)",
    "a full-width formula": "＝1+1",
    "SQL": "'; DROP TABLE jobs; --",
    "a shell": "$(id) `id` | id && id",
    "a path": "../../../../etc/passwd",
    "JSON": '{"a": [1, 2, {"b": null}]}',
    "a link": "http://127.0.0.1:1/x",
    "a Windows device": "CON",
    "null": "null",
    "not a number": "NaN",
    "a number": "1e400",
    "Arabic": "قطة",
    "Hebrew": "חתול",
    "Chinese": "大熊猫",
    "an emoji": "👩‍🚀",
    "a flag": "🇨🇭",
    "letters apart": "e\u0301te\u0301",
    "a joiner": "क्\u200dष",
    "many accents": "a" + "\u0301" * 20,
    "a private letter": "\ue000",
    "a noncharacter": "\ufffe",
    "a byte order mark": "a\ufeffb",
    "right to left": "\u202etac",
    "an isolate": "\u2066cat\u2069",
    "capital İ": "İstanbul",
    "a ligature": "ﬁsh",
    "a soft hyphen": "ca\u00adt",
}
CONTROL = {
    "NUL": "\0",
    "bell": "\a",
    "backspace": "\b",
    "escape": "\x1b[2J",
    "a title": "\x1b]0;x\a",
    "delete": "\x7f",
    "C1": "\x9b2J",
    "half a surrogate pair": "\ud800",
    "the other half": "\udfff",
    "a byte that is no UTF-8": "\udcff",
}


def text_cases() -> list[Case]:
    """All of them."""
    return [case for maker in (_hostile, _control, _lists, _written, _sizes, _brackets, _files) for case in maker()]


def _text(family: str, name: str, text: Any, right: Any) -> Case:
    return Case("text", f"texts, {family}", name, text if callable(text) else lambda: text, right)


def _hostile() -> Iterator[Case]:
    """What is a name to a person is a name here: quoted, it comes out letter by letter, but for what nobody sees."""
    for name, text in HOSTILE.items():
        quoted = text.replace('"', '""')
        seen = unicodedata.normalize("NFC", re.sub("[\ufeff\u200b\u2060]", "", text)).replace("_", " ")
        yield _text("markup and code", name, f'"{quoted}", other', [" ".join(seen.split()), "other"])


def _control() -> Iterator[Case]:
    for name, text in CONTROL.items():
        yield _text("control characters", f"{name} in a name", f"cat{text}s, dog", Right.SENTENCE)
        yield _text("control characters", f"{name} alone", f"dog, {text}", Right.SENTENCE)


def _lists() -> Iterator[Case]:
    made: dict[str, tuple[str, Any]] = {
        "lines": ("cat\ndog\r\nhen\rcow", ["cat", "dog", "hen", "cow"]),
        "semicolons": ("cat; dog ;hen", ["cat", "dog", "hen"]),
        "numbers": ("1. cat\n2. dog", ["cat", "dog"]),
        "numbers of 5,000 digits": (f"{'9' * 5000}. cat\n{'9' * 5000}. dog", Right.SENTENCE),
        "numbers of other scripts": ("١. cat\n٢. dog", ["cat", "dog"]),
        "bullets": ("- cat\n- dog", ["cat", "dog"]),
        "JSON": ('["cat", "salt, pepper"]', ["cat", "salt, pepper"]),
        "JSON of indices": ('{"0": "cat", "1": "dog"}', ["cat", "dog"]),
        "Python": ("('cat', 'dog')", ["cat", "dog"]),
        "YAML": ("[cat, dog]", ["cat", "dog"]),
        "Chinese commas": ("狗，猫；象", ["狗", "猫", "象"]),
        "quotes within quotes": ('"the ""Queen""", dog', ['the "Queen"', "dog"]),
        "runs of spaces": ("a   b ,c\t d", ["a b", "c d"]),
        "one name": ("cat", ["cat"]),
        "nothing": ("", Right.SENTENCE),
        "commas": (",,;;\n\n", Right.SENTENCE),
        "empty quotes": ("'', ''", Right.SENTENCE),
        "spaces": (" \t\u3000\u2028", Right.SENTENCE),
        "a name twice": ("cat, dog, CAT", Right.SENTENCE),
        "a name twice, spaced": ("a  b, a b", Right.SENTENCE),
        "an empty list": ("[]", Right.SENTENCE),
        "code": ("__import__('os').system('id')", Right.EITHER),
        "code in a list": ("[__import__('os').system('id')]", Right.EITHER),
        "a list of numbers": ("[1, 2, 3]", Right.EITHER),
        "a list of lists": ('[["cat"], ["dog"]]', Right.EITHER),
        "an object of lists": ('{"a": ["cat"]}', Right.EITHER),
        "a number of 10,000 digits": (f"[{'1' * 10_000}]", Right.EITHER),
        "NaN": ("[NaN, Infinity]", Right.EITHER),
        "an escaped surrogate": ('["\\ud800", "dog"]', Right.SENTENCE),
        "an escaped NUL": ('["a\\u0000b", "dog"]', Right.SENTENCE),
        "a Python escape": ("['\\x1b[2J', 'dog']", Right.SENTENCE),
        "bytes": ("[b'cat', b'dog']", Right.EITHER),
        "a formatted string": ("[f'{1}', 'dog']", Right.EITHER),
        "true": ("[true, false]", Right.EITHER),
    }
    for name, (text, right) in made.items():
        yield _text("lists", name, text, right)


def _written() -> Iterator[Case]:
    """Random names in random ways of writing a list."""
    letters = list("abcdefgh ijklmn'-.()ÄéßñçøΩя中文字한국")
    for seed in range(40):
        rng = np.random.default_rng(seed)
        names: list[str] = []
        while len(names) < rng.integers(2, 9):
            name = " ".join("".join(rng.choice(letters, int(rng.integers(3, 12)))).split())
            if name and name[0].isalpha() and name.lower() not in (other.lower() for other in names):
                names.append(name)
        way = seed % 4
        text = [", ".join, "\n".join, partial(json.dumps, ensure_ascii=seed % 8 == 2), repr][way](names)
        yield _text("lists", f"random {seed}", text, names)


def _sizes() -> Iterator[Case]:
    for count in (100, 1000):
        names = [f"thing {i}" for i in range(count)]
        yield _text("sizes", f"{count:,} names", ", ".join(names), names if count == 100 else Right.EITHER)
    yield _text("sizes", "a name of 300 letters", "dog, " + "x y " * 75, Right.SENTENCE)
    yield _text("sizes", "a name of a million letters", "dog, " + "x" * 10**6, Right.SENTENCE)
    yield _text("sizes", "a name of 10,000 emoji", "dog, " + "🧨" * 10_000, Right.SENTENCE)
    yield _text("sizes", "a million commas", "," * 10**6, Right.SENTENCE)
    yield _text("sizes", "a million line ends", "\n" * 10**6, Right.SENTENCE)
    yield _text("sizes", "a million spaces", " " * 10**6, Right.SENTENCE)
    yield _text("sizes", "one name a million times", "cat," * 10**6, Right.SENTENCE)


def _brackets() -> Iterator[Case]:
    for mark in ("[", "{", "(", "'", '"', "“", "- ", "1. ", "[-", "(1,", '["a",', "{0:'a',", "lambda:", "not "):
        for count in (1000, 100_000):
            yield _text("brackets", f"{mark!r} {count:,} times", mark * count, Right.EITHER)
    for count in (1000, 100_000):
        yield _text("brackets", f"closed {count:,} times", "[" * count + "]" * count, Right.EITHER)


def _files() -> Iterator[Case]:
    """Names of picture files, good and bad."""
    values = noise(30)
    good = encoded(Image.fromarray(values), "PNG")
    names = {
        **{key: text.replace("/", "_") for key, text in HOSTILE.items() if len(text) < 60},
        "a line end": "a\nb",
        "a terminal's escape": "a\x1b[2Jb",
        "no UTF-8": "a\udcffb",
        "two dots": "..a",
        "a dash": "-rf",
        "an option": "--json",
        "long": "x" * 200,
        "spaces": "  a  b  ",
    }
    for key, name in names.items():
        file = f"{name}.png"
        yield Case("image", "texts, file names", key, lambda: good, Pixels(values), file)
        yield Case("image", "texts, file names", f"{key}, of no picture", lambda: b"no picture", Right.SENTENCE, file)
