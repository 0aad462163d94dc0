"""What stands between a sandbox and the network: one door each, and what is let through it."""
