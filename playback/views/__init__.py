"""New views of an avatar: trajectories and camera paths, what is rendered there, and the files that
it goes into."""
