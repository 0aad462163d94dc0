"""What will be done, as data: pure, and said aloud by `--dry-run` before anything is made."""
