"""The bars of BENCH, applied to a book that is written by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.bars import bars
from bench.book import Book
from bench.chart import chart
from bench.report import report

if TYPE_CHECKING:
    from pathlib import Path

    from bench.arithmetic import Bar


def bar(book: Book, name: str) -> Bar:
    """The one bar of that name."""
    (found,) = (each for each in bars(book) if each.name == name)
    return found


def test_an_empty_book_meets_nothing() -> None:
    """What was not measured is said to be so, bar by bar."""
    assert {each.verdict for each in bars(Book())} == {"not measured"}


def test_throughput_is_compared_with_the_best_peer_of_its_column() -> None:
    """The kernel itself is no peer, nor is the copy without a record."""
    book = Book()
    samples = {"direct": 6000, "kernel NAT": 5000, "mvm, unrecorded": 3000, "HAProxy": 900, "dante": 1300}
    for name, value in samples.items():
        book.add("up 8", name, value)
    book.add("up 8", "mvm", 1560)
    assert bar(book, "throughput, up 8").bound == 1.2 * 1300
    assert bar(book, "throughput, up 8").verdict == "met"
    book.add("up 8", "nginx stream", 1301)
    assert bar(book, "throughput, up 8").verdict == "not met"


def test_processor_time_is_compared_with_the_thriftiest_peer() -> None:
    """Here the best is the smallest."""
    book = Book()
    for name, value in {"HAProxy": 1.0, "dante": 0.5, "mvm": 0.3}.items():
        book.add("cpu up", name, value)
    assert bar(book, "gateway cpu up").verdict == "met"
    book.samples["cpu up"]["mvm"] = [0.31]
    assert bar(book, "gateway cpu up").verdict == "not met"


def test_a_denial_is_judged_by_what_it_takes_beyond_a_bare_round_trip() -> None:
    """Microseconds in, milliseconds out; one millisecond beyond is met, more is not."""
    book = Book()
    book.add("denied port p99", "direct", 200)
    book.add("denied port p99", "mvm", 1200)
    assert bar(book, "denial of a port, p99").verdict == "met"
    book.samples["denied port p99"]["mvm"] = [1201]
    assert bar(book, "denial of a port, p99").verdict == "not met"


def test_a_noisy_run_says_so_wherever_it_judges() -> None:
    """No verdict of a noisy run stands without the word."""
    book = Book()
    book.add("memory", "mvm", 7e6)
    assert "| met |" in report(book)
    book.others.append(1.0)
    assert "too noisy to conclude" in report(book)
    assert "| met (noisy) |" in report(book)
    assert "| met |" not in report(book)


def test_a_book_that_was_kept_gives_the_same_page(tmp_path: Path) -> None:
    """Samples, remarks and what was left out all come back."""
    book = Book()
    book.add("up 8", "direct", 6000, 5900, 6100)
    book.add("up 8", "mvm", 2700, 2600, 2800)
    book.left_out["podman"] = "is not installed"
    book.remarks["something went wrong"] += 2
    book.facts["kernel"] = "6"
    book.write(tmp_path / "book.json")
    page = report(book)
    assert report(Book.read(tmp_path / "book.json")) == page
    assert "| **mvm** | 2,700 · 0.45 · 2,650" in page
    assert "- podman: is not installed" in page
    assert "- something went wrong (2 times)" in page


def test_the_chart_draws_each_subject_by_its_part_of_the_bare_kernel() -> None:
    """The bare kernel is the whole and has no bar; names are written as text, not as markup."""
    book = Book()
    book.add("up 8", "direct", 1000)
    book.add("up 8", "mvm", 450)
    book.add("up 8", "a < b", 100)
    drawn = chart(book)
    assert ">0.45<" in drawn
    assert ">0.10<" in drawn
    assert "a &lt; b" in drawn
    assert ">direct<" not in drawn
    assert drawn.index(">mvm<") < drawn.index("a &lt; b")


def test_the_calls_of_a_connection_are_listed_beside_its_time() -> None:
    """The most frequent first, what is seldom left out; where nothing was counted nothing is listed."""
    book = Book()
    book.add("calls/conn", "mvm", 25.0)
    book.calls["conn mvm"] = {"recvfrom": 4.1, "write": 1.0, "brk": 0.01}
    page = report(book)
    assert "| **mvm** | 25.0 |" in page
    assert "- mvm: recvfrom 4.1, write 1.0\n" in page
    assert "## Where a start's time goes" not in page
