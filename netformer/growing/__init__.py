"""Growing: step units found without a gradient, as oblivious trees, beside the networks a transformer writes.

Read `trees` first, then `beside`.
"""
