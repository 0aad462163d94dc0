"""One spelling of a moment: RFC 3339, UTC, microseconds, `2025-01-31T23:59:59.000001Z`.

Must never read a clock: the moment is handed in. (It uses `time.gmtime`, which is arithmetic.)
"""

from __future__ import annotations

from functools import lru_cache
from time import gmtime, strftime

_NANOSECONDS = 10**9


def rfc3339(nanoseconds: int) -> str:
    """Spell a moment so that text order is time order.

    Args:
        nanoseconds: since 1970-01-01 UTC, as `time.time_ns()` gives; years 1970 to 9999.

    Returns:
        27 characters; what is below a microsecond is cut off.
    """
    seconds, rest = divmod(nanoseconds, _NANOSECONDS)
    return f"{_whole_seconds(seconds)}.{rest // 1000:06d}Z"


@lru_cache(maxsize=4)  # records come many a second
def _whole_seconds(seconds: int) -> str:
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(seconds))
