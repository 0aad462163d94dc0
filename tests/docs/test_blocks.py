"""What the reader of examples takes from a page."""

from __future__ import annotations

from tests.docs.examples import examples_of


def test_a_file_stands_where_the_examples_below_it_run() -> None:
    """A block that is a file stands beside the examples after it on its page, and not beside those before."""
    run = "```console runs\n$ mvmctl ls\nnothing\n[6]\n```\n"
    text = f"{run}\n```toml file=mvm.toml\n[network]\n```\n\n```toml\n[other]\n```\n{run}"
    before, after = examples_of(text, "page.md")
    assert (before.files, after.files) == ({}, {"mvm.toml": "[network]\n"})
    assert (after.text, after.prints, after.status) == ("mvmctl ls", ("nothing",), 6)
