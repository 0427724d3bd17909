"""Moving between trackers: runs recorded elsewhere become runs of the store, and the other way round."""
