"""The tests of mvm; `support` holds the fake internet they run in."""
