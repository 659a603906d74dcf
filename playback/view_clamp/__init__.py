"""What a recording has seen of its avatar, and holding the avatar to it where a camera goes
beyond."""
