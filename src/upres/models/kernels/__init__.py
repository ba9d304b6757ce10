"""Passes over tensors that a GPU does best in one go, each with a plain PyTorch twin that says what it computes.

`switch.use` decides between them; "plain" until told otherwise. The fused kernels are in Triton (folder `fused`, which
nothing imports before they are wanted). They are held to their twins in Triton's interpreter and compile for sm_80 and
sm_90; that for Hopper alone, which no interpreter runs, is held to its twin by the benchmark. Knows nothing of any
model.
"""
