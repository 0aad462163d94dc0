"""The Python API against the real thing: sandboxes, commands in them, live policy, and nothing left."""
