"""Arrays: the same code on torch tensors, where gradients are needed, and on numpy arrays, without torch.

Read `namespace` first; `array` and `functions` are what numpy says in torch's words, `draws` torch's random numbers.
"""
