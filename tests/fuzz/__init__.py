"""Every reader against bytes that nobody meant, and every state machine against orders that nobody planned.

`readers` is the table of what is read and what may come of it, `mutation` makes inputs, `coverage` tells
which of them reach something new, `long` is the documented long run, `seeds` the inputs to begin with.
"""
