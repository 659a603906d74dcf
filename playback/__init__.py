"""Playback: a bundle alone, driven by head states; needs no trainer, capture or head model's asset.

``player`` evaluates and renders an avatar, clamped to the recorded views by ``view_clamp``; on CUDA
by the fastest of ``evaluators``. ``drivers`` read motion, ``transfer`` brings it onto an avatar.
``views`` renders trajectories and camera paths, ``films`` writes them, ``viewer`` shows an avatar
in the browser. ``evaluation``, ``image_evaluation``, ``tracking_gain`` and ``demo_truth`` measure.
"""
