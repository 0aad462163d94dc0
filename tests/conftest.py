"""What every test may ask for, and the one move of the pytest process into the fake internet.

Owns the fixtures that all tests share. Must never hold a fixture that only one folder needs.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.support import evidence
from tests.support import world as worlds
from tests.support.internet import Internet
from tests.support.leftovers import Leftovers
from tests.support.mvmctl import Mvmctl
from tests.support.skips import Skips

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.world import World

_NEEDS_WORLD = ("kernel", "escape", "faults")
_NUMBERS = itertools.count(1)
_WORLD: pytest.StashKey[World | str] = pytest.StashKey()


# The checkout may belong to someone else, so no examples are kept in it; a failure prints how to repeat it.
# How long an example takes is this machine's business. Where a landing hangs on it nothing is left to chance:
# there each run tries the same examples, and chance has its place in `dev.py fuzz`.
settings.register_profile(
    "mvm",
    database=None,
    print_blob=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
)
settings.load_profile("mvm")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option by which a run leaves evidence."""
    parser.addoption("--evidence", metavar="FILE", help="write what this run found, for `mvmctl claims`")


def pytest_configure(config: pytest.Config) -> None:
    """Enter the world before anything else has started a thread."""
    is_worker = hasattr(config, "workerinput")
    if not is_worker:
        config.pluginmanager.register(Skips(), "mvm-skips")
        evidence.register(config)
    try:
        if not is_worker and config.getoption("dist", "no") != "no":
            config.stash[_WORLD] = "the controller of pytest-xdist runs no tests"
            worlds.lend_capabilities()
        else:
            config.stash[_WORLD] = worlds.enter()
    except worlds.WorldRefused as refusal:
        config.stash[_WORLD] = str(refusal)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what means nothing for this user or on this machine, saying why."""
    if item.get_closest_marker("root_only") and os.geteuid() != 0:
        pytest.skip("means something only as root")
    if item.get_closest_marker("user_only") and os.geteuid() == 0:
        pytest.skip("means something only as an ordinary user")
    if any(item.get_closest_marker(name) for name in _NEEDS_WORLD):
        _entered(item.config)


def _entered(config: pytest.Config) -> World:
    made = config.stash[_WORLD]
    if isinstance(made, str):
        pytest.skip(made)
    return made


@pytest.fixture(scope="session")
def world(pytestconfig: pytest.Config) -> World:
    """The namespace this process is in; skips where the machine withholds one."""
    return _entered(pytestconfig)


@pytest.fixture(scope="session")
def internet(world: World) -> Iterator[Internet]:
    """The fake internet: its hosts, what arrived at them, and how they behave."""
    try:
        made = Internet(world)
    except OSError as problem:
        pytest.skip(f"no wire to the fake internet on this machine: {problem}")
    yield made
    made.close()


@pytest.fixture(scope="session")
def ca_file(internet: Internet) -> Path:
    """The certificate that every host of the fake internet is signed by, PEM."""
    return internet.ca_file


@pytest.fixture
def mvmctl(internet: Internet, world: World) -> Iterator[Mvmctl]:
    """The command line, with the fake internet around it and directories of its own."""
    assert internet.pid
    directory = world.directory / f"m{next(_NUMBERS)}"
    directory.mkdir()
    made = Mvmctl(directory)
    yield made
    made.close()


@pytest.fixture
def leftovers(mvmctl: Mvmctl) -> Leftovers:
    """What remains since the test began; `leftovers.expect_none()` at its end."""
    return Leftovers([mvmctl.runtime, mvmctl.temporary])
