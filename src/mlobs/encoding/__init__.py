"""Content in its final form: what was kept raw becomes a PNG or a text, outside of the training process."""
