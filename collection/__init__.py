"""Many subjects: the programs of this project as tasks, side by side on one machine or spread over
several.

A **subject** is a video and its options. It has two **tasks**, each one run of a program in a
process of its own: ``preprocess`` makes its capture, ``fit`` makes its run from that. Apart, so
that machines without a GPU feed those with one. What is done is told by files alone
(``likeness.collection.state``), who is at work by a **claim** (``likeness.collection.claims``), so
that several machines with one shared folder, a Slurm array, or a Ray cluster can work on the same
list at the same time, and the same command goes on after anything that stopped it.

This package knows programs by their command lines. It imports ``scene`` and nothing else of the
project, so that whoever hands out tasks stays small, and a broken program is a failed task.
"""
