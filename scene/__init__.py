"""The types of the project: ``camera``, ``cloud``, ``head_state``, ``capture``, ``seeds`` and
``rig_binding``; ``transforms``, ``gaze`` and ``lattice`` (secondary motion); files (``reading``,
``files``, ``tensor_files``, ``config_files``) and their errors.

Conventions, used everywhere:

* Right-handed frames. **Head frame**: +x the subject's left, +y up, +z out of the face; the origin
  is the head model's. **Camera frame**: OpenCV, +x right, +y down, +z forward. **World**: the frame
  of the fixed camera of a capture. **Body frame**: where the shoulders stand; at rest it coincides
  with the head frame.
* ``T_a_b`` maps b to a: ``p_a = T_a_b @ p_b``.
* Quaternions are wxyz and unit; rotations are composed by quaternion product, never added.
* Metres, seconds, pixels, radians.
* Pixel (0, 0) is the image's top-left corner, pixel centres lie at +0.5. The principal point is
  honoured.
* Images are HWC, RGB, sRGB-encoded, in [0, 1]; uint8 only on disk and in frame caches. Rendered
  colour is premultiplied by alpha.
* The head is anchored: an avatar lives in the head frame, and the head's motion is a motion of the
  camera (``camera.in_frame(state.T_world_head)``).
* ``[*b, N, 3]`` is a tensor with any leading batch dimensions. Nouns of tensors are frozen
  (``TensorRecord``) and check their shapes when they are made.
"""
