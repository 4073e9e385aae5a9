"""Matching and merging as loops over the tokens of one image.

This code was written from the definition, without a look at the reference, so that it can check
both the library and the reference.
"""

import math

import torch


def cosine(a, b):
    if not (a.isfinite().all() and b.isfinite().all()):
        return -math.inf
    a, b = a.double(), b.double()
    if a.norm() == 0 or b.norm() == 0:
        return -math.inf
    return float(torch.dot(a, b) / (a.norm() * b.norm()))


def match_one(metric, r, prefix):
    """[N, D] -> the destinations [N] of a global step. At most half of the patches merge."""
    n = len(metric)
    r = min(r, (n - prefix) // 2)
    if r == 0:
        return list(range(n))
    a = [i for i in range(prefix, n) if i % 2 == 0]
    b = [i for i in range(prefix, n) if i % 2 == 1]
    pairs = []
    for i in a:
        best, best_j = -math.inf, b[0]
        for j in b:
            similarity = cosine(metric[i], metric[j])
            if similarity > best:
                best, best_j = similarity, j
        pairs.append((-best, i, best_j))
    pairs.sort()
    partner = {i: j for _, i, j in pairs[:r]}
    order = list(range(prefix)) + [i for i in a if i not in partner] + b
    place = {token: k for k, token in enumerate(order)}
    return [place[partner.get(i, i)] for i in range(n)]


def merge_one(x, size, destination):
    """[N, C], [N] -> [M, C], [M]."""
    rows = []
    for m in range(max(destination) + 1):
        sources = [n for n, d in enumerate(destination) if d == m]
        total = sum(size[n] for n in sources)
        rows.append((sum(size[n] * x[n] for n in sources) / total, total))
    return torch.stack([r[0] for r in rows]), torch.stack([r[1] for r in rows])


def tome_forward(model, image, r):
    """Logits, source and sizes of one image [channels, h, w]; ``r`` has a count per block."""
    x = model._pos_embed(model.patch_embed(image[None]))[0]
    prefix = model.num_prefix_tokens
    size = torch.ones(len(x))
    source = list(range(prefix, len(x)))
    for block, count in zip(model.blocks, r, strict=True):
        heads = []
        keys = []
        h, d = block.attn.num_heads, x.shape[1] // block.attn.num_heads
        qkv = block.attn.qkv(block.norm1(x))
        for head in range(h):
            q, k, v = (
                qkv[:, part * h * d + head * d : part * h * d + (head + 1) * d] for part in range(3)
            )
            logits = q @ k.T / math.sqrt(d) + size.log()[None]
            heads.append(logits.softmax(-1) @ v)
            keys.append(k)
        x = x + block.attn.proj(torch.cat(heads, 1))
        destination = match_one(sum(keys) / h, count, prefix)
        x, size = merge_one(x, size, destination)
        source = [destination[s] for s in source]
        x = x + block.mlp(block.norm2(x))
    return model.forward_head(model.norm(x)[None])[0], source, size
