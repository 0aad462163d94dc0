"""The servers of the fake internet: one process inside the namespace "up".

Owns everything behind the wire. Runs as `python -m tests.support.upstream FD DIRECTORY`, obeys the JSON
lines that arrive on the descriptor FD (`control`), and ends when that is closed. Must never import the
product.

Known holes: HTTP/2 answers the first request of a connection only in the plainest form; what a peer sends
after the server stopped reading is not counted as bytes (it is in `packets`).
"""
