"""What a command meets inside a backend: words, streams, files, limits, as a user types and sees them."""
