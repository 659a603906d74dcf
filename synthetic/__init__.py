"""The demo subject: a synthetic subject whose pose, expression, camera and matte are known exactly.

``likeness.synthetic.truth`` makes the video and reads its truth back; ``errors`` compares a capture
with it.
"""
