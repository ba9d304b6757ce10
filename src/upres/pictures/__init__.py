"""Pictures for people and agents who cannot watch a video: stills, excerpts, before and after. No torch, no tasks."""
