"""`make bench-gpu`: where a GPU's time goes in SeedVR2 and FlashVSR, against what the arithmetic needs at least.

Needs torch, einops, safetensors, numpy and, for the fused kernels, Triton; nothing else. Weights are random, or for
likeness those of a training of some minutes (training.py) on real frames (footage.py): random nets make noise of noise.
"""
