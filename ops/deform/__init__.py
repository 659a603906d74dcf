"""How Gaussians move: with the face (rig), with hair and clothes (secondary motion), between head and body (two frames)."""
