"""FlashVSR in tensors: a one-step streaming diffusion transformer and its decoders. Knows nothing of files or tasks."""
