"""The gateway: its pure half as functions, the rest against doors in the fake internet."""
