"""Report: pages and pictures of an evaluation.

Read `evaluation_report` first: what the page of an evaluation shows; `pictures` and `charts` draw it.
"""
