"""`make bench-gpu`: where a GPU's time goes in SeedVR2 and FlashVSR, against what the arithmetic needs at least.

Needs torch, einops, safetensors, numpy and, for the fused kernels, Triton; nothing else. Weights are random.
"""
