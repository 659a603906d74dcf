"""Seeds from a capture: a Gaussian cloud that looks like the subject before anything is fitted.

``mesh``: on the head model's surface. ``off_mesh``: also beside it, where the mattes show a person.
``unprojection``: few images, unprojected onto the head. ``random``: in the head's box. Each gives a
function of a capture, a store of its training frames, a SeedingConfig and the seed of the random
numbers. ``likeness.fitting.seedings`` lists them.
"""
