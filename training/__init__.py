"""Training of the one-shot network on captures of many people.

``samples`` draws source and target images, ``objective`` is the loss, ``trainer`` the loop, which
``run`` and ``processes`` (torchrun) start; ``config`` has the settings.
"""
