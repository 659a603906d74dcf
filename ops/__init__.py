"""Numerical operations: each with a plain reference, one implementation on the CPU, CUDA where measured."""
