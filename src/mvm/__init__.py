"""mvm runs code that nobody should trust and lets it reach exactly the hosts that were named."""

from __future__ import annotations

__version__ = "0.1.0"
