"""Fitting: from a Capture to an AvatarBundle."""
