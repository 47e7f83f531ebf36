"""One training on disk: checkpoints, resuming, the models that ship, where a number came from."""
