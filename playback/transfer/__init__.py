"""One person's expressions on another's avatar: retargeting, smoothing, and how well it went."""
