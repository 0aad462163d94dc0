"""The verbs of `mvmctl image`: the cache of what sandboxes are made of."""
