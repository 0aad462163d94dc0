"""Words that fetch something inside a sandbox, for tests that need a granted and a denied twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def trusting(ca_file: Path) -> tuple[str, ...]:
    """Options by which a sandbox trusts the fake internet's certificates."""
    return ("-v", f"{ca_file}:/ca.pem:ro", "-e", "CURL_CA_BUNDLE=/ca.pem")


def fetch(host: str, path: str = "/") -> tuple[str, ...]:
    """A command that fetches a page over TLS and prints its status."""
    url = f"https://{host}{path}"
    return ("curl", "-sS", "--max-time", "10", "-o", "/dev/null", "-w", "%{http_code}", url)
