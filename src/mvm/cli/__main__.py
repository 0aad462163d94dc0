"""`python -m mvm.cli`, the same as `mvmctl`."""

from __future__ import annotations

from mvm.cli import main

if __name__ == "__main__":
    main()
