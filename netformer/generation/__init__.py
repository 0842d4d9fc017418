"""Generation: from a table to networks, merged, refined and delivered.

Read `generator` first, then `sampling`; `estimator` is the scikit-learn interface.
"""
