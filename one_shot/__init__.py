"""The one-shot model as a seeding: a network that makes a drivable Gaussian head of one image.

``config``: sizes. ``queries``: its points on the head model. ``inputs``: what it is told of an
image. ``network``, ``unprojection``, ``backbones``: itself. ``infer``: images to Gaussians.
``seeds``: Gaussians to seeds. ``weights``: its files. ``likeness.training``: how it learns.
"""
