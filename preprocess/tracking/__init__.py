"""The head tracker: FaceMesh landmarks of a clip in, poses, expressions, gaze and the person's
shape out.

``track`` is a batch Gauss-Newton over all frames of a clip; see ``tracker.py``.
"""
