"""The operators equal the reference and the loops, and have the properties of their definition."""

import pytest
import torch
from naive import cosine, match_one, merge_one
from near_ties import decision_margin
from tolerance import assert_close, far_from_ties

import dsm_ext
from dsm_ext import reference

# (tokens, r, prefix, windows)
CASES = [
    (197, 16, 1, ()),
    (197, 98, 1, ()),
    (198, 16, 2, ()),
    (196, 30, 0, ()),
    (9, 3, 3, ()),
    (2, 0, 1, ()),
    (3, 1, 1, ()),
    (12, 3, 5, ()),
    (197, 16, 1, (49, 49, 49, 49)),
    (197, 13, 1, (49, 49, 49, 49)),
    (197, 96, 1, (49, 49, 49, 49)),
    (21, 8, 1, (6, 4, 6, 4)),
    (22, 7, 2, (9, 1, 0, 7, 3)),
]
IDS = [f"{n} tokens, r {r}, prefix {p}, {len(w) or 'no'} windows" for n, r, p, w in CASES]


def metric_for(tokens, images=4, dim=24, device="cpu"):
    return torch.randn(images, tokens, dim, device=device)


def order_for(tokens, prefix, device="cpu"):
    return torch.randperm(tokens - prefix, device=device, dtype=torch.int32)


@pytest.mark.parametrize("case", CASES, ids=IDS)
@pytest.mark.parametrize("ordered", [False, True])
def test_match_equals_reference(case, ordered, device):
    tokens, r, prefix, windows = case
    order = order_for(tokens, prefix, device) if ordered and windows else None
    metric = metric_for(tokens, 16, device=device)
    actual = dsm_ext.match(metric, r, prefix=prefix, windows=windows, order=order)
    expected = reference.match(metric, r, prefix, windows, order)
    clear = far_from_ties(decision_margin(metric, r, prefix, windows, order))
    assert actual.dtype == torch.int32
    assert torch.equal(actual.long().cpu()[clear], expected.cpu()[clear])


@pytest.mark.parametrize("case", [c for c in CASES if not c[3]])
def test_match_equals_loops(case):
    tokens, r, prefix, _ = case
    metric = metric_for(tokens, 2)
    expected = [match_one(one, r, prefix) for one in metric]
    assert dsm_ext.match(metric, r, prefix=prefix).tolist() == expected
    assert reference.match(metric, r, prefix).tolist() == expected


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_every_token_has_a_place(case, device):
    tokens, r, prefix, windows = case
    destination = dsm_ext.match(
        metric_for(tokens, device=device), r, prefix=prefix, windows=windows
    )
    left = tokens - r
    for row in destination.tolist():
        assert set(row) == set(range(left))
        assert row[:prefix] == list(range(prefix))


def test_ties_go_to_the_lower_index(device):
    # Rows of four signs: norms and products are exact, so that similarities are exactly equal.
    signs = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])
    index = torch.randint(4, (8, 31), generator=torch.Generator().manual_seed(1))
    metric = signs[index].to(device)
    for r in (1, 5, 15):
        destination = dsm_ext.match(metric, r, prefix=1)
        for one, row in zip(metric.cpu(), destination.tolist(), strict=True):
            assert row == match_one(one, r, 1)
        assert torch.equal(destination.long(), reference.match(metric, r, 1))


def rows_of_kinds(tokens, dim, kinds):
    """Each row occurs many times, but no row occurs in both A and B.

    Equal rows in A and B would have the cosine 1, which rounding changes from row to row.
    """
    rows = torch.randn(3, 2 * kinds, dim)
    index = 2 * torch.randint(kinds, (3, tokens)) + torch.arange(tokens) % 2
    return rows.gather(1, index[..., None].expand(-1, -1, dim))


# With odd numbers of tokens and channels a library computes the last values by other code.
@pytest.mark.parametrize("dim", [1, 5, 64, 67])
@pytest.mark.parametrize("tokens", [7, 64, 131, 197])
@pytest.mark.parametrize("kinds", [1, 7])
def test_identical_rows_go_to_the_lower_index(tokens, dim, kinds, device):
    metric = rows_of_kinds(tokens, dim, kinds).to(device)
    if dim == 1:  # all cosines are then exactly 1 or -1
        metric = metric.sign()
    windows = [tokens // 3, tokens - 1 - tokens // 3]
    for r in {1, tokens // 5, (tokens - 1) // 2}:
        actual = dsm_ext.match(metric, r, prefix=1)
        assert torch.equal(actual.long(), reference.match(metric, r, 1))
        for one, row in zip(metric.cpu(), actual.tolist(), strict=True):
            assert row == match_one_by_kind(one, r, 1)
        most = sum(t // 2 for t in windows)
        actual = dsm_ext.match(metric, min(r, most), prefix=1, windows=windows)
        assert torch.equal(actual.long(), reference.match(metric, min(r, most), 1, windows))


def match_one_by_kind(metric, r, prefix):
    """``match_one`` that computes one similarity for all equal rows, so that ties are exact."""
    kinds, index = metric.unique(dim=0, return_inverse=True)
    similarity = [[cosine(a, b) for b in kinds] for a in kinds]
    a = [i for i in range(prefix, len(metric)) if i % 2 == 0]
    b = [i for i in range(prefix, len(metric)) if i % 2 == 1]
    pairs = []
    for i in a:
        scores = [similarity[index[i]][index[j]] for j in b]
        best = max(scores)
        pairs.append((-best, i, b[scores.index(best)]))
    partner = {i: j for _, i, j in sorted(pairs)[:r]}
    order = list(range(prefix)) + [i for i in a if i not in partner] + b
    place = {token: k for k, token in enumerate(order)}
    return [place[partner.get(i, i)] for i in range(len(metric))]


def test_the_reference_settles_ties_compiled_and_exported():
    metric = rows_of_kinds(131, 67, 5)

    class Match(torch.nn.Module):
        def forward(self, metric):
            return reference.match(metric, 40, 1)

    expected = dsm_ext.match(metric, 40, prefix=1).long()
    assert torch.equal(reference.match(metric, 40, 1), expected)
    assert torch.equal(torch.export.export(Match(), (metric,)).module()(metric), expected)
    compiled = torch.compile(Match(), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(metric), expected)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_bad_rows_are_matched_last_and_poison_nothing(value, device):
    metric = metric_for(33, device=device)
    good = dsm_ext.match(metric, 5, prefix=1)
    bad = metric.clone()
    bad[:, 4] = value  # in A
    bad[:, 9] = value  # in B
    destination = dsm_ext.match(bad, 5, prefix=1)
    assert torch.equal(destination.long(), reference.match(bad, 5, 1))
    places = destination[:, 9:10]
    assert (destination == places).sum(1).tolist() == [1] * 4  # nothing merged with token 9
    assert ((destination == destination[:, 4:5]).sum(1) == 1).all()  # token 4 merged with no other
    assert good.shape == destination.shape
    everything = torch.full_like(metric, value)
    assert torch.equal(
        dsm_ext.match(everything, 5, prefix=1).long(), reference.match(everything, 5, 1)
    )


def test_extreme_but_finite_rows_are_not_bad(device):
    metric = metric_for(33, device=device)
    expected = dsm_ext.match(metric, 5, prefix=1)
    for scale in (2.0**-120, 2.0**100):
        assert torch.equal(dsm_ext.match(metric * scale, 5, prefix=1), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_precision_compares_in_float32(dtype, device):
    metric = metric_for(65, device=device).to(dtype)
    assert torch.equal(
        dsm_ext.match(metric, 9, prefix=1), dsm_ext.match(metric.float(), 9, prefix=1)
    )


@pytest.mark.parametrize("case", CASES, ids=IDS)
@pytest.mark.parametrize("channels", [1, 7, 192])
def test_merge_equals_reference(case, channels, device):
    tokens, r, prefix, windows = case
    destination = dsm_ext.match(
        metric_for(tokens, device=device), r, prefix=prefix, windows=windows
    )
    x = torch.randn(4, tokens, channels, device=device)
    size = torch.randint(1, 9, (4, tokens), device=device).float()
    left = tokens - r
    merged, merged_size = dsm_ext.merge(x, size, destination, left)
    expected, expected_size = reference.merge(x, size, destination, left)
    assert_close(merged, expected)
    assert torch.equal(merged_size, expected_size)
    assert torch.equal(merged_size.sum(1), size.sum(1))
    one, one_size = merge_one(x[0].cpu(), size[0].cpu(), destination[0].tolist())
    assert_close(merged[0].cpu(), one)
    assert torch.equal(merged_size[0].cpu(), one_size)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_merge_sums_low_precision_in_float32(dtype, device):
    x = torch.randn(2, 33, 16, device=device).to(dtype)
    size = torch.randint(1, 50, (2, 33), device=device).float()
    destination = dsm_ext.match(x, 12, prefix=1)
    merged, _ = dsm_ext.merge(x, size, destination, 21)
    exact, _ = dsm_ext.merge(x.float(), size, destination, 21)
    assert torch.equal(merged, exact.to(dtype))


def test_no_merge_is_the_identity(device):
    x = torch.randn(3, 10, 5, device=device)
    size = torch.rand(3, 10, device=device) + 1
    destination = dsm_ext.match(x, 0, prefix=1)
    merged, merged_size = dsm_ext.merge(x, size, destination, 10)
    assert torch.equal(merged, x)
    assert torch.equal(merged_size, size)


def test_permuted_batch_gives_permuted_result(device):
    x = torch.randn(6, 65, 12, device=device)
    size = torch.ones(6, 65, device=device)
    permutation = torch.randperm(6, device=device)
    destination = dsm_ext.match(x, 9, prefix=1)
    merged, _ = dsm_ext.merge(x, size, destination, 56)
    again = dsm_ext.match(x[permutation], 9, prefix=1)
    assert torch.equal(again, destination[permutation])
    assert torch.equal(dsm_ext.merge(x[permutation], size, again, 56)[0], merged[permutation])


def test_non_contiguous_inputs(device):
    x = torch.randn(65, 3, 24, device=device).transpose(0, 1)[:, :, ::2]
    size = torch.ones(65, 3, device=device).t()
    destination = dsm_ext.match(x, 9, prefix=1)
    assert torch.equal(destination, dsm_ext.match(x.contiguous(), 9, prefix=1))
    strided = torch.empty(3, 130, dtype=torch.int32, device=device)[:, ::2].copy_(destination)
    merged, _ = dsm_ext.merge(x, size, strided, 56)
    expected, _ = dsm_ext.merge(x.contiguous(), size.contiguous(), destination, 56)
    assert torch.equal(merged, expected)
    assert torch.equal(
        dsm_ext.unmerge(merged.transpose(1, 2).contiguous().transpose(1, 2), strided),
        dsm_ext.unmerge(merged, destination),
    )


def test_unmerge_equals_reference_and_inverts_where_nothing_merged(device):
    x = torch.randn(3, 33, 8, device=device)
    destination = dsm_ext.match(x, 10, prefix=1)
    merged, size = dsm_ext.merge(x, torch.ones(3, 33, device=device), destination, 23)
    back = dsm_ext.unmerge(merged, destination)
    assert torch.equal(back, reference.unmerge(merged, destination))
    alone = size.gather(1, destination.long()) == 1
    assert torch.equal(back[alone], x[alone])


@pytest.mark.parametrize("images, tokens, dim", [(0, 5, 3), (2, 1, 3), (2, 5, 0)])
def test_empty_inputs(images, tokens, dim, device):
    x = torch.zeros(images, tokens, dim, device=device)
    destination = dsm_ext.match(x, 0, prefix=1)
    assert destination.shape == (images, tokens)
    merged, size = dsm_ext.merge(x, torch.ones(images, tokens, device=device), destination, tokens)
    assert merged.shape == x.shape
    assert size.shape == (images, tokens)
    assert dsm_ext.unmerge(merged, destination).shape == x.shape


def op_samples(device):
    x = torch.randn(2, 21, 6, device=device)
    order = order_for(21, 1, device)
    destination = dsm_ext.match(x, 4, prefix=1)
    ops = torch.ops.dsm_ext
    yield ops.match.default, (x, 4, 1)
    yield ops.match.default, (x, 2, 1, [6, 4, 6, 4], order)
    yield ops.merge.default, (x, torch.ones(2, 21, device=device), destination, 17)
    yield ops.unmerge.default, (x, destination)


def test_opcheck(device):
    for op, arguments in op_samples(device):
        torch.library.opcheck(op, arguments)
