"""mlobs."""
