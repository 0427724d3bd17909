"""Upkeep of a store: runs that are removed, and files that nothing needs any more."""
