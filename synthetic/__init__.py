"""Synthetic subjects, whose pose, expression, camera and matte are known exactly.

``subject`` renders one, made of ``appearance``, ``paint``, ``hair``, ``glasses`` and ``torso``,
moved by ``motion``. ``truth`` makes the demo's video and reads its ground truth back, ``errors``
compares a capture with it. ``people`` makes captures of many subjects, to train on.
"""
