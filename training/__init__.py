"""Training of the one-shot network on captures of many people."""
