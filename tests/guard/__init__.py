"""The rules of the house that no tool checks by itself."""
