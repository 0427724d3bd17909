"""Reproducibility: what went into a run, captured, fingerprinted, restored and compared."""
