"""The compiled parts of the CPU renderer, in the order in which they run.

``projection`` (Gaussians to ellipses on the screen, colours), ``sorting`` (by depth), ``binning``
(ellipses to lists of 8x8 tiles), ``compositing`` (front to back), then backwards
``compositing_backward`` and ``projection_backward``.

Every kernel is single-threaded and releases the GIL; ``likeness.renderers.cpu`` runs several at
once on disjoint shares of the work, assigned statically, so that the same number of threads always
gives the same bits. Images of a batch go through all kernels side by side, one to a thread, where
there are no fewer of them than threads.
"""
