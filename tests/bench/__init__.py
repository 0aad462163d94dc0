"""The bench: its arithmetic, and one piece of it really run."""
