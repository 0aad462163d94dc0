"""Each defence is noticed when it is gone: the tests that meet it fail without it, and pass with it."""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.mutations import copies
from tests.mutations.defences import DEFENCES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from tests.mutations.copies import Outcomes
    from tests.mutations.defences import Defence

pytestmark = [pytest.mark.slow, pytest.mark.escape]

_SIDE_BY_SIDE = 2


def _is_for_another(defence: Defence) -> bool:
    """Whether its tests are those of another user. Where both run it, as in CI, root takes out all others."""
    if os.geteuid() == 0:
        return defence.user_only
    return "CI" in os.environ and not defence.user_only


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository in which nothing is changed."""
    return copies.copy_repository(tmp_path_factory.mktemp("mutations") / "whole")


class Runs(NamedTuple):
    """The runs of all copies.

    Attributes:
        without: by the name of the defence, of the copy without it.
        whole: by folder of tests, of the copy in which nothing is changed.
    """

    without: dict[str, Future[Outcomes]]
    whole: dict[str, Future[Outcomes]]


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, whole: Path) -> Iterator[Runs]:
    """The run of each defence that was asked for, and of the tests of all of them without any change."""
    asked = [
        str(item.callspec.params["name"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.module is request.module and hasattr(item, "callspec")
    ]
    wanted = {name: DEFENCES[name] for name in asked if not _is_for_another(DEFENCES[name])}
    lanes = copies.Lanes(_SIDE_BY_SIDE)
    with ThreadPoolExecutor(max_workers=_SIDE_BY_SIDE) as pool:
        intact = sorted({test for defence in wanted.values() for test in (*defence.red, *defence.alive)})
        made = Runs({}, {})
        for folder, tests in itertools.groupby(intact, _folder):
            report = whole.parent / f"{folder.replace('/', '-')}.xml"
            asked_for = list(tests)
            made.whole[folder] = pool.submit(lanes.run, whole, asked_for, report, passing=asked_for)
        for number, (name, defence) in zip(itertools.count(), wanted.items(), strict=False):
            made.without[name] = pool.submit(_without, lanes, whole, whole.parent / str(number), defence)
        yield made


def _without(lanes: copies.Lanes, whole: Path, place: Path, defence: Defence) -> Outcomes:
    copy = copies.lend(whole, place)
    copies.edit(copy, defence.edits)
    copies.lose_patience(copy)
    passing = [*defence.green, *defence.alive]
    return lanes.run(copy, [*defence.red, *passing], place.with_suffix(".xml"), passing=passing)


def _folder(test: str) -> str:
    return test.rpartition("::")[0].rpartition("/")[0]


def _bare(tests: tuple[str, ...]) -> set[str]:
    return {test.partition("[")[0] for test in tests}


@pytest.mark.parametrize("name", DEFENCES)
def test_without_a_defence_the_tests_that_meet_it_fail(runs: Runs, name: str) -> None:
    """In a copy without it each fails, a sandbox starts there and is of use; in a whole copy all pass."""
    defence = DEFENCES[name]
    if _is_for_another(defence):
        pytest.skip(f"means something only as {'an ordinary user' if defence.user_only else 'root'}")
    needed = (*defence.red, *defence.alive)
    without = runs.without[name].result()
    whole = [runs.whole[folder].result() for folder in sorted({_folder(test) for test in needed})]
    if any(run.skipped & _bare(defence.red) for run in whole):
        pytest.skip("this machine lacks what the tests of that defence need")
    unnoticed = _bare(defence.red) - without.failed
    assert not unnoticed, f"nothing fails without: {name}\n{without.said}"
    dead = _bare(defence.alive) - without.passed
    assert not dead, f"nothing starts, or is reached, without: {name}\n{without.said}"
    broken = _bare(defence.green) - without.passed
    assert not broken, f"held by nothing else than: {name}\n{without.said}"
    elsewhere = _bare(needed).difference(*(run.passed for run in whole))
    assert not elsewhere, f"not because of the mutation: {elsewhere}\n" + "\n".join(run.said for run in whole)
