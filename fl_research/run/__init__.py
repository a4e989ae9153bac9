"""What a run leaves in its folder, and what survives a crash."""
