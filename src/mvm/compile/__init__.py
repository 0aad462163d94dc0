"""Declarations read from the text of a Python file, which is never imported.

    text ── ast ──► bindings (what each name of the module means) ── expression (values) ──► program

Owns the subset of Python in which a declaration can be read without running it: literals, module constants,
displays of lists, tuples and dictionaries, f-strings of constants, and mvm's own words. Anything else in a
declaration is refused with its line and column, so that whoever imports the module gets what was read here.
Pure: no file is opened. Known hole: what a module does to its own constants through `globals()` or another
module can't be seen; what is enforced is what was read.
"""
