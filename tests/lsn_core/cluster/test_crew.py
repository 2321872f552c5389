"""When a worker counts as hung, and what becomes of its tasks; on a Ray whose time passes at once."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
from support_simulated_ray import NEVER, SimulatedJob, SimulatedRay, by_four

from lsn_core.errors import UserError

LIMIT = 60.0


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> SimulatedRay:
    ray = SimulatedRay()
    monkeypatch.setattr("lsn_core.cluster.crew.time", ray)
    return ray


def squares(numbers: range) -> list[int]:
    return [number**2 for number in numbers]


def test_what_a_hung_worker_has_is_done_by_others(ray: SimulatedRay, caplog: pytest.LogCaptureFixture) -> None:
    job = SimulatedJob(ray, lambda actor, number: NEVER if (actor, number) == (0, 6) else 2)
    crew = job.crew(2, LIMIT)
    results = [one for found in crew.run(by_four(range(40))) for one in found]
    assert results == squares(range(40))
    assert crew.deaths == 1 and job.actors[0].dead and len(job.actors) == 3
    assert caplog.messages == ["A worker hung for 60 seconds and was ended; its photos are done by others."]
    assert LIMIT < ray.now < 2 * LIMIT + 40


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_of_a_task_that_hangs_all_only_the_guilty_part_is_given_up(ray: SimulatedRay, workers: int) -> None:
    job = SimulatedJob(ray, lambda actor, number: NEVER if number in (13, 14) else 1)
    crew = job.crew(workers, LIMIT)
    results = [one for found in crew.run(by_four(range(40))) for one in found]
    assert results == [*squares(range(13)), "13 is deadly", "14 is deadly", *squares(range(15, 40))]
    assert crew.deaths == 6  # two to suspect the four, and two for each


@pytest.mark.parametrize(
    ("seconds", "delay"),
    [
        pytest.param(lambda actor, number: 50, 0.0, id="each number takes nearly as long as the limit"),
        pytest.param(lambda actor, number: 20 * 2 ** (number // 4), 0.0, id="they take longer and longer"),
        pytest.param(lambda actor, number: 1, 1000.0, id="what is sent takes long"),
    ],
)
def test_who_is_slow_does_not_hang(ray: SimulatedRay, seconds: object, delay: float) -> None:
    crew = SimulatedJob(ray, seconds, delay).crew(2, LIMIT)  # type: ignore[arg-type]
    assert [one for found in crew.run(by_four(range(24))) for one in found] == squares(range(24))
    assert crew.deaths == 0


def test_time_that_others_take_is_not_the_workers(ray: SimulatedRay) -> None:
    crew = SimulatedJob(ray, lambda actor, number: 10).crew(2, LIMIT)
    results = []
    for found in crew.run(by_four(range(40))):
        results += found
        ray.now += 10 * LIMIT  # whoever takes the results writes them to a slow disk
    assert results == squares(range(40)) and crew.deaths == 0


def test_where_all_hang_it_ends(ray: SimulatedRay) -> None:
    crew = SimulatedJob(ray, lambda actor, number: NEVER if number >= 8 else 1).crew(2, LIMIT)
    results = []
    with pytest.raises(UserError, match=r"hang, one after the other, for 60 seconds each.*start again: with --resume"):
        for found in crew.run(by_four(range(4000))):
            results += found
    assert results[:8] == squares(range(8))
    assert ray.now < 20 * LIMIT and len(ray.killed) == len({id(actor) for actor in ray.killed}) <= 16


def test_without_a_limit_nobody_is_asked(ray: SimulatedRay) -> None:
    crew = SimulatedJob(ray, lambda actor, number: 100_000).crew(1, None)
    assert list(crew.run([[2], [3]])) == [[4], [9]]
    assert ray.questions == 0


@pytest.mark.parametrize("interrupted", [False, True])
def test_no_worker_is_left_where_results_are_no_longer_wanted(
    ray: SimulatedRay, monkeypatch: pytest.MonkeyPatch, interrupted: bool
) -> None:
    job = SimulatedJob(ray, lambda actor, number: 1)
    results = job.crew(3, LIMIT).run(by_four(range(40)))
    assert next(results) == [0, 1, 4, 9]
    if interrupted:
        monkeypatch.setattr(ray, "wait", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            list(results)
    else:
        results.close()
    assert len(job.actors) == 3 and all(actor.dead for actor in job.actors)


def test_of_a_cluster_that_is_gone_nothing_is_asked(ray: SimulatedRay) -> None:
    head = Mock(gone=False)

    def look(now: bool = False) -> None:
        if ray.now > 5:
            head.gone = True
            raise UserError("The cluster no longer answers.")

    head.look = look
    crew = SimulatedJob(ray, lambda actor, number: NEVER).crew(2, LIMIT, head)
    with pytest.raises(UserError, match="no longer answers"):
        list(crew.run([[1], [2]]))
    assert not ray.killed and ray.now < 10  # Ray would wait for it a minute, and end the process
