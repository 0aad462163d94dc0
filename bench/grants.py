"""What a decision and an answer of the resolver cost, and whether the number of grants makes them dearer.

Owns a policy of so many grants and the timing of calls. The same ten names are asked, spread over the
policy, so that what is compared is the search and not the processor's cache; names at random are a figure
beside it.
"""

from __future__ import annotations

import time
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, TypeVar

from mvm.declare.network import dns_system
from mvm.gateway.names import Names
from mvm.gateway.resolver import answer
from mvm.policy.decide import Allowed, Authority
from mvm.policy.model import Grant, Policy
from mvm.terms import HostName, Preset, Protocol, Reason
from mvm.wire.dns_message import A, build_query

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from bench.book import Book

T = TypeVar("T")

FEW, MANY = 10, 100_000
_ASKED = 10


def measure(book: Book, random: Random, *, rounds: int, calls: int) -> None:
    """Nanoseconds of one decision, and of one answer, at few and at many grants, in turns."""
    standing = {count: _Standing(count, random) for count in (FEW, MANY)}
    for _ in range(rounds):
        for count in random.sample((FEW, MANY), 2):
            each = standing[count]
            book.add("decide ns", f"{count} grants", _per_call(each.decide, each.asked, calls))
            book.add("resolve ns", f"{count} grants", _per_call(each.resolve, each.questions, calls))
            book.add(
                "decide ns", f"{count} grants, names at random", _per_call(each.decide, each.anywhere, calls)
            )


class _Standing:
    """A policy in force."""

    def __init__(self, count: int, random: Random) -> None:
        names = [HostName(f"host-{number}.example.com") for number in range(count)]
        grants = tuple(Grant(host=name, port=443) for name in names)
        policy = Policy(
            grants=grants, dns=dns_system(), preset=Preset.NONE, unrestricted=False, forwards=(), ttl=None
        )
        self._authority, self._names = Authority(policy, 0.0), Names()
        self.asked = names[:: count // _ASKED][:_ASKED]
        self.anywhere = random.choices(names, k=1000)
        self.questions = [build_query(1, str(name), A) for name in self.asked]

    def decide(self, name: HostName) -> None:
        address = IPv4Address("198.18.1.0")
        found = self._authority.decide(host=name, address=address, port=443, protocol=Protocol.TCP, now=1.0)
        assert isinstance(found, Allowed)

    def resolve(self, question: bytes) -> None:
        assert answer(question, self._lookup, dns_allowed=True, over_tcp=False).denied is None

    def _lookup(self, name: str) -> tuple[bytes | None, bytes | None] | Reason:
        host = HostName(name)
        if not self._authority.knows(host) or (pair := self._names.pair(host)) is None:
            return Reason.HOST_NOT_GRANTED
        return pair[0].packed, pair[1].packed


def _per_call(act: Callable[[T], None], asked: list[T], calls: int) -> float:
    order = (asked * (calls // len(asked) + 1))[:calls]
    began = time.perf_counter_ns()
    for each in order:
        act(each)
    return (time.perf_counter_ns() - began) / calls
