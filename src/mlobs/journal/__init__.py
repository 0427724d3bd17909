"""The journal: what a run recorded, on the local disk, before anyone else sees it."""
