"""The nouns of the project and their mathematics: transforms, cameras, Gaussian clouds, head
states, captures.

Conventions, used everywhere:

* Right-handed frames. **Head frame**: +x to the subject's left, +y up, +z out of the face; its
origin comes from the
  head model. **Camera frame**: OpenCV, +x right, +y down, +z forward. **World** is the frame of the
  fixed camera of a capture (so ``T_cam_world`` is the identity there, unless a file says
  otherwise).
* ``T_a_b`` maps coordinates in b to coordinates in a: ``p_a = T_a_b @ p_b``.
* Quaternions are wxyz and unit; rotations are composed by quaternion product, never added.
* Metres, seconds, pixels, radians.
* Pixel (0, 0) is the top-left corner of the image and pixel centres lie at +0.5. The principal
point is honoured.
* Images are HWC, RGB, sRGB-encoded, in [0, 1]; uint8 only on disk and in frame caches. Rendered
colour is
  premultiplied by alpha.
* The head is anchored: an avatar lives in the head frame, and the head's motion is a motion of the
camera
  (``camera.in_frame(state.T_world_head)``). The **body frame** is where the shoulders stand; at
  rest it coincides with the head frame.
"""
