"""Which files are fetched before they are asked for."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from lsn_core.data.read_ahead import ReadAhead


class Slow:
    """Files that come when they are waited for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def fetch(self, number: int) -> Future[bytes]:
        self.asked.append(number)
        future: Future[bytes] = Future()
        if number == 13:
            future.set_exception(OSError("gone"))
        else:
            future.set_result(str(number).encode())
        return future


def test_one_after_the_other_more_and_more_are_fetched_ahead_and_each_once() -> None:
    files = Slow()
    ahead = ReadAhead(files.fetch, range(0, 200, 2))
    seen = []
    for number in range(0, 200, 2):
        assert ahead.read(number) == str(number).encode()
        seen.append(len(files.asked) - 1 - number // 2)
    assert seen[:6] == [0, 1, 2, 4, 8, 8] and max(seen) == 8
    assert files.asked == list(range(0, 200, 2))


def test_here_and_there_only_what_is_asked_for_is_fetched() -> None:
    files = Slow()
    ahead = ReadAhead(files.fetch, range(1000))
    numbers = [5, 900, 17, 300, 40, 5, 720]
    assert [ahead.read(number) for number in numbers] == [str(number).encode() for number in numbers]
    assert files.asked == numbers


def test_several_read_at_a_time_each_elsewhere() -> None:
    files = Slow()
    ahead = ReadAhead(files.fetch, range(1000))
    for step in range(50):
        for start in (100, 500):
            assert ahead.read(start + step) == str(start + step).encode()
    assert len(files.asked) == len(set(files.asked)) == 100 + 2 * 8


def test_what_fetching_raises_is_raised_where_the_file_is_asked_for() -> None:
    files = Slow()
    ahead = ReadAhead(files.fetch, range(100))
    for number in range(20):
        if number == 13:
            with pytest.raises(OSError, match="gone"):
                ahead.read(number)
        else:
            assert ahead.read(number) == str(number).encode()
