"""The one-shot model: a network that makes a drivable Gaussian head of one image.

``config``: sizes. ``queries``: points on the head model. ``inputs``: image and tracked head as
tensors. ``network``, ``unprojection``, ``backbones``: the network itself. ``infer``: images to
Gaussians. ``seeds``: Gaussians to seeds. ``weights``: files. ``likeness.training`` trains it.
"""
