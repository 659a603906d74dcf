"""Photometric tracking: poses and expressions of landmarks refined until a Gaussian cloud shows
every frame.

Landmarks alone trade rotation against expression, and place the head a degree or two off. Here a
coarse cloud, bound to the head model's expression shapes and nothing else, is fitted to all frames
together with each frame's poses, secondary motion and expression: bundle adjustment on pixels. It
sees every frame alike, before any avatar exists, and no avatar sees it.
"""
