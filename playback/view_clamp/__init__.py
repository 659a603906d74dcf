"""Views beyond those of a recording: colours are clamped to the nearest recorded direction, and
Gaussians that no frame showed are shrunk so that they do not streak."""
