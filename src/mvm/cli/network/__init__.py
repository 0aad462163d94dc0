"""The verbs of `mvmctl network`: what a policy means, and the live policy of a running sandbox."""
