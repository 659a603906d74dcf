"""The one-shot model as an initializer: a network that makes a drivable Gaussian head of one
picture.

``config``: sizes. ``surface``: its queries. ``views``: what it is told of a picture. ``network``,
``lifting``, ``backbones``: itself. ``infer``: pictures to Gaussians. ``seeds``: Gaussians to seeds.
``weights``: its files. ``training``: how it learns (likeness train).
"""
