"""Passes over tensors that a GPU does best in one go, each with a plain PyTorch twin that says what it computes.

`switch.use` decides between them; "plain" until told otherwise, and workers on a GPU tell it "auto". The fused kernels
are in Triton (folder `fused`, which nothing imports before they are wanted). They are held to their twins in Triton's
interpreter and by the benchmarks' checks on a GPU, so far an H100; that for Hopper alone, which no interpreter runs, by
the latter only. Knows nothing of any model.
"""
