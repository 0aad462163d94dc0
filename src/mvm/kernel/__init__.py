"""System calls and what the kernel is asked by them: one function per call, which decides nothing."""
