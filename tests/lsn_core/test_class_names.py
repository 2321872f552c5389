"""Class lists as people write and paste them, and lists that are written to be read again."""

from __future__ import annotations

import json

import pytest

from lsn_core import UserError
from lsn_core.class_names import check_class_names, join_class_names, split_class_names

AWKWARD = [
    "salt, pepper",
    'the "Queen"',
    "men's shoe",
    "'tis",
    "rock; roll",
    "[x]",
    "7. symphony",
    "寿司、刺身",
    "- dash",
    "(a) b",
]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("dog, cat", ["dog", "cat"]),
        ("dog\r\ncat\r\n", ["dog", "cat"]),
        (" dog ;; cat,", ["dog", "cat"]),
        ("狗，猫；象", ["狗", "猫", "象"]),
        ("", []),
        (" ,\n; ", []),
        ('"salt, pepper", cat', ["salt, pepper", "cat"]),
        ("'salt, pepper'\n“a; b”", ["salt, pepper", "a; b"]),
        ('"say ""hi"", twice", dog', ['say "hi", twice', "dog"]),
        ("men's shoe, women's shoe", ["men's shoe", "women's shoe"]),
        ('17" wheel, "odd one, cat', ['17" wheel', '"odd one', "cat"]),
        ("1. cat\n2. dog\n3) 3D printer", ["cat", "dog", "3D printer"]),
        ("0\tcat\n1\tdog", ["cat", "dog"]),
        ("1. cat, 2. dog", ["cat", "dog"]),
        ("1. FC Köln\n7. symphony", ["1. FC Köln", "7. symphony"]),
        ("7.62 mm, 8.58 mm", ["7.62 mm", "8.58 mm"]),
        ("- cat\n- dog", ["cat", "dog"]),
        ("t-shirt, x-ray", ["t-shirt", "x-ray"]),
        ('["cat", "salt, pepper"]', ["cat", "salt, pepper"]),
        ("['cat', 'men\\'s shoe',\n ]", ["cat", "men's shoe"]),
        ("('cat', 'dog')", ["cat", "dog"]),
        ('{"0": "cat", "1": "dog"}', ["cat", "dog"]),
        ("{0: 'cat', 1: 'dog'}", ["cat", "dog"]),
        ('{"cat": 0, "dog": 1}', ["cat", "dog"]),
        ("{'b', 'a'}", ["b", "a"]),
        ("[cat, dog]", ["cat", "dog"]),
        ("(formal) shirt, shirt (casual)", ["(formal) shirt", "shirt (casual)"]),
    ],
)
def test_lists_are_read_as_they_are_meant(text: str, names: list[str]) -> None:
    assert split_class_names(text) == names


@pytest.mark.parametrize(
    "names", [AWKWARD, AWKWARD[::-1], ["1. cat", "2. dog"], ["cat", "dog"], *([name] for name in AWKWARD)]
)
def test_a_list_that_is_written_is_read_as_the_same_names(names: list[str]) -> None:
    assert split_class_names(join_class_names(names)) == names
    assert split_class_names(json.dumps(names)) == names


@pytest.mark.parametrize("text", ["[" * 20_000, '"' * 40_000, '",' * 20_000, "'a,\"b," * 5_000, "1. " * 13_000])
@pytest.mark.timeout(10)
def test_harmful_lists_take_no_time(text: str) -> None:
    split_class_names(text)


@pytest.mark.parametrize("mark", ["\0", "\a", "\x1b[2J", "\x7f", "\x9b", "\ud800", "\udcff"])
def test_names_that_no_file_or_page_can_hold_are_refused(mark: str) -> None:
    with pytest.raises(UserError, match="control character") as refused:
        check_class_names(["dog", f"cat{mark}"])
    assert str(refused.value).isprintable()
    with pytest.raises(UserError, match="1,001 letters"):
        check_class_names(["dog", "x" * 1001])


def test_numbers_of_thousands_of_digits_count_nothing() -> None:
    text = f"{'9' * 5000}. cat\n{'9' * 5000}. dog"
    assert split_class_names(text) == text.split("\n")
