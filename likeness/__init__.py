"""Drivable photoreal head avatars, made of 3D Gaussians, from one person's video."""
