"""Links of the pages lead somewhere."""

from __future__ import annotations

import re

from tests.support.source import ROOT

_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def test_every_relative_link_leads_to_a_file_or_directory() -> None:
    """Of the README and of everything below docs."""
    dead = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
        for link in _LINK.findall(page.read_text("utf-8"))
        if not (page.parent / link).exists()
    ]
    assert dead == []
