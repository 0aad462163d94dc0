"""mvm runs code that nobody should trust and lets it reach exactly the hosts that were named."""
