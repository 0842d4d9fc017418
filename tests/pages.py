"""What tests of reports share: a parser of pages, a table of scores, tasks with networks to draw."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import torch
from drawn import draw

from netformer.evaluation.scored import Samples, Scored
from netformer.networks.specs import Layout
from netformer.report.pictures import Evidence
from netformer.tasks.task import Task, split_rows
from netformer.tasks.view import stack_tasks

VOID = {"meta", "input"}


class Page(HTMLParser):
    """Every tag with its attributes and the text of every cell; checks that tags close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.open, self.rows = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if any(tag in self.open for tag in ("td", "th")):
            self.rows[-1][-1] += data

    def count(self, tag):
        return sum(name == tag for name, _ in self.tags)


def self_contained(text):
    assert not re.search(r"(?:https?:)?//[\w.]+/|\bsrc=|@import|url\(|<link|<iframe|<img|<base", text)
    policy = next(a["content"] for _, a in Page(text).tags if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-")
    assert len(text.encode()) < 1_000_000
    return Page(text)


def per_task(sets=("heldout_tasks", "real_tables"), rows=("single", "wide_16", "ridge", "scratch", "retrieval")):
    rng = np.random.default_rng(0)
    lines = [
        {"set": name, "task_id": f"{name}-{i}", "family": f"f{i % 2}", "row": row, "test_r2": rng.uniform(-1, 1)}
        for name in sets
        for row in rows
        for i in range(5)
    ]
    return pd.DataFrame(lines)


def metrics(table):
    zero_shot = {}
    for (name, row), group in table.groupby(["set", "row"]):
        median = float(group["test_r2"].median())
        zero_shot.setdefault(name, {}).update({row: median, f"{row}_n_tasks": float(len(group))})
        if row in ("ridge", "single"):
            zero_shot[name] |= {f"wide_16_minus_{row}": 0.0125, f"wide_16_minus_{row}_se": 0.0049}
    return {"zero_shot": zero_shot, "sampling": {"validity": 1.0}, "tokens": {"exact": 1.0, "n_networks": 7.0}}


def made_evidence():
    """Six tasks in three sets; networks that are random, scores that are not theirs."""
    rng, layout, n = np.random.default_rng(0), Layout(5, 2, 4), 3
    tasks = []
    for i, (source, family) in enumerate([("synthetic", "trees"), ("synthetic", "friedman1"), ("real", "wages")] * 2):
        X = rng.normal(size=(40, 1 + i))
        y = X[:, 0] + 0.1 * rng.normal(size=40)
        tasks.append(Task(f"t{i}", source, family, "test", X, y, split_rows(40, rng)))
    stack = stack_tasks(tasks, layout.max_features)
    networks = draw(6 * n, layout=layout, inputs=5)
    index = torch.arange(6).repeat_interleave(n)
    r2s, runs = {"single": torch.full((1, 6, n, 3), 0.25)}, torch.arange(6)[None]
    samples = Samples(tasks, stack, runs, networks, index, r2s, torch.zeros(1, 6, n))
    zoo = Scored(networks, index, np.array(["test"] * len(index)), torch.full((len(index), 3), 0.75))
    latents = torch.randn(len(index), 8, generator=torch.Generator().manual_seed(0))
    return Evidence(samples, zoo, latents, list(range(6)))
