"""Numerical operations: each has a plain reference in PyTorch and at most one fast implementation
per kind of device, in the module of the same name that ends in ``_cpu`` or ``_cuda``.

Geometry: ``deform`` (rig, secondary motion, head and body frame), ``fused_deform`` (all of it for
playback), ``harmonics``, ``unit_quaternions``. Features and networks: ``blend``, ``encoding``,
``mlp``, ``planes``, ``triplane``. Losses and optimization: ``ssim``, ``image_loss``, ``adam``.
Storage: ``quantization``. How kernels are made: ``compilation``, ``simd``, ``rows_cpu``,
``threads``.
"""
