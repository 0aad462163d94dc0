"""The verbs of `mvmctl receipt`: the signed receipt of one run, shown and verified."""
