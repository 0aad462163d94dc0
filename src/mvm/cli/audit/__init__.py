"""The verbs of `mvmctl audit`: the record of runs, shown and verified."""
