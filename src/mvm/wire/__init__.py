"""Readers of what goes over the wire, pure: bytes in; a value, None (more is needed) or `Malformed` out."""
