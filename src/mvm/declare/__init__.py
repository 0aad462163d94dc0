"""The words a user writes: a program's networks, its sandboxes and the functions that run in them.

    network.py   `mvm.network` and the words inside of it, and the policy that they come to
    program.py   `mvm.app`, `mvm.func` and the words beside them: one program, and its canonical JSON

Each word refuses what it can't mean where it is written. Pure: what is said here starts nothing, and
`mvm.compile` reads the same words from a syntax tree.
"""
