"""The vendors' own pages on what backends hold: which there are, and the programs that serve them."""
