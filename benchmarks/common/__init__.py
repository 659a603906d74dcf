"""What the benchmarks share. The programs beside this folder are run as
``python -m benchmarks.NAME``, and import nothing of each other."""
