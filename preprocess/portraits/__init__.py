"""Still images of one person, and what becomes of them: an ordinary capture whose frames are all
for training."""
