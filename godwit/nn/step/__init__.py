"""One compiled call a layer for a few tokens on a CPU, where plain PyTorch spends its time on starting operations.

It computes what the blocks of `godwit.nn` compute over a cache, which define it. `weights` says what it can take and
hands out the blocks' own numbers (no copies: weights changed in place are seen); `_kernel` holds the loops.
"""
