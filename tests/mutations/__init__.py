"""The guard of the guards: each defence taken out of a private copy, and the tests that must then fail.

    src, tests ──copied──► a directory of its own ──a text replaced──► pytest NODEIDS ──► each of them red

A mutation is a text of the product and what stands there instead (`defences`); the product knows nothing
of it. Without a mutation the same tests pass, so that their failing means the defence and nothing else.

Owns the table and the copies. Must never change a file of the checkout, and put no switch in the product.
"""
