"""Fitting: from a Capture to an AvatarBundle.

``subject`` fits a run (``run_directory``): seeds (``seedings``) initialize an avatar (``avatars``),
which ``loop`` optimizes by ``objective`` and ``optimizers`` while ``densify`` changes the number of
Gaussians; ``listeners`` watch, ``checkpoint`` saves. ``bundle`` is the result on disk,
``evaluation`` and ``metrics`` measure it, ``report`` shows it. ``image_fit``, ``finetune`` and
``recolouring`` are for avatars of still images. All settings are in ``config``.
"""
