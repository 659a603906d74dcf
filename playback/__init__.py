"""Playback: a bundle alone, driven by head states. Needs no trainer, no capture, no head-model
asset."""
