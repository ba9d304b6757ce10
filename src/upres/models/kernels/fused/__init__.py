"""Triton. Imported only when a fused kernel is called for."""
