"""What users hand over, as content and the words about it: one file for each kind of thing."""
