"""How soon a workload hears no, is cut off, or is told a name; and datagrams.

Owns the pairs: each denial beside the bare round trip of the same shape outside of a sandbox. Must never
count an attempt that was let through.
"""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING

import mvm
from bench import layout as places
from bench.arithmetic import quantile
from bench.processor import Watch
from bench.product import INSIDE
from bench.subjects import Nat, Pasta, Slirp, Subject
from mvm.wire.dns_message import A, build_query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.book import Book
    from bench.layout import Layout
    from bench.product import Mvm

_UNGRANTED = 9
_IDENT = 0x6D76
_QUESTIONS = {"question": places.NAME, "unknown": "not-granted.test"}


def questions(layout: Layout) -> None:
    """Put the datagrams that are asked where the clients find them."""
    for file, name in _QUESTIONS.items():
        (layout.programs / file).write_bytes(build_query(_IDENT, name, A))


def measure_denials(product: Mvm, bare: Subject, book: Book, *, rounds: int, count: int) -> None:
    """A name, a port and a wrong SNI: refused inside, and the same shape answered outside."""
    resolver = _resolver(product)
    shapes = {
        "name": ((resolver, "53"), (places.UP, str(places.ECHO)), "unknown"),
        "port": ((product.address, str(_UNGRANTED)), (places.UP, str(places.CLOSED)), ""),
        "word": ((product.address, str(places.ONCE)), (places.UP, str(places.ONCE)), places.STRANGER),
    }
    for _ in range(rounds):
        for shape, (denied, answered, file) in shapes.items():
            for subject, place in ((product, denied), (bare, answered)):
                said = [subject.bench(file)] if file else []
                words = ["python3", subject.bench("inside.py"), shape, *place, str(count), *said]
                try:
                    took = json.loads(subject.run(words))
                except subprocess.SubprocessError as problem:
                    book.remarks[
                        f"{subject.name}, denial by {shape}: {getattr(problem, 'stderr', problem)!s:.200}"
                    ] += 1
                    continue
                book.add(f"denied {shape} p50", subject.name, quantile(took, 0.5))
                book.add(f"denied {shape} p99", subject.name, quantile(took, 0.99))


def measure_datagrams(
    subjects: Sequence[Subject], product: Mvm | None, book: Book, *, rounds: int, seconds: float
) -> None:
    """Answers a second: the echo through whoever carries datagrams, and names from mvm's resolver."""
    for _ in range(rounds):
        for subject in subjects:
            carries = (
                type(subject) is Subject or isinstance(subject, Nat | Slirp | Pasta) or subject is product
            )
            if carries:
                _ask(subject, (subject.address, str(places.ECHO)), seconds, "datagrams/s", book)
        if product is not None:
            _ask(product, (_resolver(product), "53"), seconds, "dns/s", book)


def _ask(subject: Subject, place: tuple[str, str], seconds: float, figure: str, book: Book) -> None:
    words = [subject.bench("datagrams"), "ask", *place, str(seconds), "16", subject.bench("question")]
    try:
        with Watch() as watch:
            found = json.loads(subject.run(words))
    except (OSError, subprocess.SubprocessError, ValueError) as problem:
        book.remarks[f"{subject.name}, {figure}: {problem!s:.200}"] += 1
        return
    book.others.append(watch.others)
    if found["errs"] > found["done"] / 1000:
        book.remarks[f"{subject.name}, {figure}: {found['errs']} errors"] += 1
        return
    book.add(figure, subject.name, found["per_s"])


def measure_revocation(layout: Layout, book: Book, *, rounds: int, flows: int) -> None:
    """From the call that takes a grant away to the last resets of many open flows."""
    kept = mvm.host_port(places.NAME, places.KEPT, private=True)
    other = mvm.host_port(places.NAME, places.ONCE, private=True)
    dns = mvm.dns_static({places.NAME: places.UP})
    for _ in range(rounds):
        network = mvm.network(mode="bridge", egress=mvm.egress([kept, other]), dns=dns)
        less = mvm.network(mode="bridge", egress=mvm.egress([other]), dns=dns)
        with mvm.Sandbox(network=network, volumes=[f"{layout.programs}:{INSIDE}:ro"]) as box:
            address = box.run(["getent", "ahostsv4", places.NAME]).stdout.split()[0].decode()
            words = ["python3", f"{INSIDE}/inside.py", "hold", address, str(places.KEPT), str(flows)]
            with box.popen([*words, f"{INSIDE}/{places.NAME}"]) as holder:
                told = holder.stdout.readline()
                if told.strip() != b"ready":
                    book.remarks[
                        f"revocation: the flows were not opened: {holder.communicate()[1]!r:.200}"
                    ] += 1
                    continue
                began = time.monotonic()
                box.set_network(less)
                ended = json.loads(holder.communicate()[0])
        if len(ended) < flows:
            book.remarks[f"revocation: {flows - len(ended)} of {flows} flows were not reset"] += 1
        took = [(moment - began) * 1e3 for moment in ended]
        if took:
            book.add("revoked p50", "mvm", quantile(took, 0.5))
            book.add("revoked p99", "mvm", quantile(took, 0.99))


def _resolver(product: Mvm) -> str:
    for line in product.run(["cat", "/etc/resolv.conf"]).splitlines():
        if line.startswith("nameserver") and "." in line:
            return line.split()[1]
    raise ValueError("no name server inside")
