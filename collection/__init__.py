"""Many subjects: preprocessing and fits as tasks, side by side on one machine or on a Ray cluster.

A **subject** is a video and its options. It has two **tasks**, each one run of a `likeness` command
in a process of its own: ``preprocess`` makes its capture, ``fit`` makes its run from that. What
became of a task is kept in a file (``likeness.collection.state``), so that the same command resumes
after anything that stopped it: finished tasks are skipped, an interrupted fit resumes.
"""
