"""One module per framework, imported by name: `from mlobs.integrations.tensorboard import SummaryWriter`."""
