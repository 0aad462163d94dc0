"""The fake internet that every test of the kernel, of escapes and of faults runs in, and the tools to
measure with.

Owns what tests share. Independent of the product on purpose: the world is built without one line of `mvm`,
so that a fault in the product's netlink or resolver cannot hide itself.
"""
