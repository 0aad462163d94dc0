"""The documentation says what is so: its examples run, its reference is what the program prints."""
