"""From a video to a tracked, matted capture."""
