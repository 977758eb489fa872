"""A double of ``<package>.pytorch.ops`` of spconv 2.3: its calls, layouts and traps, in torch.

Stands in for CUDA, where the libraries cannot run here. As they do, it numbers output rows as it
likes, sorts the masks, wants int32, contiguous coordinates and equal padding, raises where all
points vanish, knows odd submanifold kernels alone, reads every row by its number unchecked, and
may have no kernel for some channels. Written from the source of spconv 2.3.6; it is no proof of
what a GPU computes.
"""

import enum
import itertools
import math

import numpy as np
import torch


class ConvAlgo(enum.Enum):
    Native = 0
    MaskImplicitGemm = 1
    MaskSplitImplicitGemm = 2


class Ops:
    """The functions of the module, and a list of the names of those that were called."""

    CPU_ONLY_BUILD = False
    TILE = 4

    def __init__(self, library="spconv", no_kernel=None):
        self.library, self.no_kernel, self.calls = library, no_kernel or (lambda *_: False), []

    def _candidates(self, coords, batch_size, shape, ksize, stride, padding, dilation, *rest):
        out_padding, subm, transpose = (*rest, False)[:3]
        assert coords.dtype == torch.int32
        assert coords.is_contiguous()
        assert len(coords)
        assert not any([transpose, *out_padding])
        low = [0] * len(ksize)
        if subm:
            assert all(k % 2 for k in ksize), "subm only support odd ksize"
            low = [k // 2 * d for k, d in zip(ksize, dilation, strict=True)]
            stride, sizes = [1] * len(ksize), list(shape)
        else:
            assert padding == [0] * len(ksize), "the adapter moves coordinates instead"
            sizes = [
                (n - d * (k - 1) - 1) // s + 1
                for n, k, s, d in zip(shape, ksize, stride, dilation, strict=True)
            ]
        assert batch_size * math.prod(shape) < 2**31
        known = {tuple(site): row for row, site in enumerate(coords.tolist())}
        assert len(known) == len(coords)
        reached = []
        for tap, k in enumerate(itertools.product(*map(range, ksize))):
            for site, row in known.items():
                place = [
                    x + p - d * t for x, p, d, t in zip(site[1:], low, dilation, k, strict=True)
                ]
                out = tuple(x // s for x, s in zip(place, stride, strict=True))
                if any(x % s for x, s in zip(place, stride, strict=True)):
                    continue
                if all(0 <= x < n for x, n in zip(out, sizes, strict=True)):
                    reached.append((tap, row, (site[0], *out)))
        if subm:
            return coords, [(k, i, known[o]) for k, i, o in reached if o in known]
        found = sorted({out for _, _, out in reached})
        if not found:
            raise ValueError("Your points vanished here, this usually because you provide ...")
        order = torch.randperm(len(found), generator=torch.Generator().manual_seed(3)).tolist()
        number = dict(zip(found, order, strict=True))
        rows = torch.empty(len(found), coords.shape[1], dtype=torch.int32)
        for site, row in number.items():
            rows[row] = torch.tensor(site, dtype=torch.int32)
        return rows, [(k, i, number[o]) for k, i, o in reached]

    def get_indice_pairs(self, coords, batch_size, spatial_shape, algo, *window):
        """As in spconv.pytorch.ops."""
        self.calls.append("get_indice_pairs")
        assert algo.name == "Native"
        found, reached = self._candidates(coords, batch_size, spatial_shape, *window)
        taps, subm = math.prod(window[0]), window[5]
        pairs = torch.full((2, taps, len(coords)), -1, dtype=torch.int32)
        counts = torch.zeros(taps, dtype=torch.int32)
        for tap, row_in, row_out in reached:
            pairs[:, tap, counts[tap]] = torch.tensor([row_in, row_out], dtype=torch.int32)
            counts[tap] += 1
        if subm:
            # Before the centre alone; tap K-1-k mirrors tap k, pair for pair.
            for tap in range(taps // 2):
                pairs[:, taps - 1 - tap] = pairs[:, tap].flip(0)
            counts[taps // 2 :] = 0
        return found, pairs, counts

    def get_indice_pairs_implicit_gemm(self, coords, batch_size, spatial_shape, algo, *window):
        """As in spconv.pytorch.ops, ``is_train`` included."""
        self.calls.append("get_indice_pairs_implicit_gemm")
        found, reached = self._candidates(coords, batch_size, spatial_shape, *window)
        taps, subm = math.prod(window[0]), window[5]
        assert taps <= 32
        forward = torch.full((taps, len(found)), -1, dtype=torch.int32)
        backward = torch.full((taps, len(coords)), -1, dtype=torch.int32)
        for tap, row_in, row_out in reached:
            forward[tap, row_out], backward[tap, row_in] = row_in, row_out
        rest = taps - taps // 2
        splits = {
            "MaskImplicitGemm": [0xFFFFFFFF],
            "MaskSplitImplicitGemm": [(1 << rest) - 1, ((1 << taps // 2) - 1) << rest],
        }[algo.name]
        masks, orders = zip(*(_sorted_masks(forward, split) for split in splits), strict=True)
        back = [] if subm else [_sorted_masks(backward, split) for split in splits]
        splits = [np.array([split], dtype=np.uint32) for split in splits]
        tables = (forward, backward, list(masks), [m for m, _ in back])
        counts = torch.zeros(taps, dtype=torch.int32)
        return (found, counts, *tables, list(orders), [o for _, o in back], splits)

    def indice_conv(self, x, filters, pairs, counts, rows, inverse=False, subm=False):
        """As in spconv.pytorch.ops."""
        self.calls.append("indice_conv")
        filters = filters.reshape(filters.shape[0], -1, filters.shape[-1])
        out = x @ filters[:, filters.shape[1] // 2].T if subm else x.new_zeros(rows, len(filters))
        for tap, source, target in _pairs_of(pairs, counts, inverse, subm):
            out.index_add_(0, target, x[source] @ filters[:, tap].T)
        return out

    def indice_conv_backward(self, x, filters, grad, pairs, counts, inverse=False, subm=False):
        """As in spconv.pytorch.ops."""
        self.calls.append("indice_conv_backward")
        assert grad.is_contiguous()
        assert filters.is_contiguous()
        flat = filters.reshape(filters.shape[0], -1, filters.shape[-1])
        centre, grad_filters = flat.shape[1] // 2, torch.zeros_like(flat)
        grad_x = grad @ flat[:, centre] if subm else torch.zeros_like(x)
        if subm:
            grad_filters[:, centre] = grad.T @ x
        for tap, source, target in _pairs_of(pairs, counts, inverse, subm):
            grad_x.index_add_(0, source, grad[target] @ flat[:, tap])
            grad_filters[:, tap] = grad[target].T @ x[source]
        return grad_x, grad_filters.reshape(filters.shape)

    def implicit_gemm(self, x, filters, table, masks, order, rows, splits, is_train, is_subm):
        """As in spconv.pytorch.ops."""
        self.calls.append("implicit_gemm")
        assert x.is_contiguous()
        assert filters.is_contiguous()
        assert is_train
        if self.no_kernel("forward", x, filters):
            raise RuntimeError("can't find suitable algorithm for 0")
        flat = filters.reshape(filters.shape[0], -1, filters.shape[-1])
        out, tiles = x.new_zeros(rows, filters.shape[0]), []
        for words, place, split in zip(masks, order, splits, strict=True):
            mask = words[:, 0].long() & int(split[0])
            for tap in range(flat.shape[1]):
                target = place[(mask >> tap & 1).bool()].long()
                out.index_add_(0, target, x[_rows(table[tap, target])] @ flat[:, tap].T)
            whole = torch.nn.functional.pad(mask, (0, -len(mask) % self.TILE)).view(-1, self.TILE)
            tiles.append(np.bitwise_or.reduce(whole.numpy(), axis=1))
        if self.library == "spconv_triton":
            return out, torch.Tensor(), -1
        return out, torch.tensor(np.stack(tiles)), self.TILE

    def implicit_gemm_backward(
        self, x, filters, grad, table, back, masks, back_masks, order, back_order, *rest
    ):
        """As in spconv.pytorch.ops."""
        self.calls.append("implicit_gemm_backward")
        tiles, splits, height, is_subm = rest
        assert grad.is_contiguous()
        if self.no_kernel("backward", x, filters):
            raise ValueError("can't find suitable algorithm for", 1)
        flat = filters.reshape(filters.shape[0], -1, filters.shape[-1])
        grad_x, grad_filters = torch.zeros_like(x), torch.zeros_like(flat)
        taps = flat.shape[1]
        for j, split in enumerate(splits):
            mask = ((masks if is_subm else back_masks)[j][:, 0].long()) & int(split[0])
            place = (order if is_subm else back_order)[j]
            for tap in range(taps):
                bit = taps - 1 - tap if is_subm else tap
                target = place[(mask >> bit & 1).bool()].long()
                grad_x.index_add_(0, target, grad[_rows(back[tap, target])] @ flat[:, tap])
            if self.library == "spconv_triton":
                seen = [torch.arange(len(grad))] * taps if j == 0 else [torch.arange(0)] * taps
            else:
                seen = [
                    order[j][(tiles[j] >> tap & 1).bool().repeat_interleave(height)[: len(grad)]]
                    for tap in range(taps)
                ]
            for tap, rows in enumerate(seen):
                target = rows.long()[table[tap, rows.long()] >= 0]
                grad_filters[:, tap] += grad[target].T @ x[_rows(table[tap, target])]
        return grad_x, grad_filters.reshape(filters.shape)


def _rows(index):
    assert not len(index) or int(index.min()) >= 0, "a mask names a tap without a pair"
    return index.long()


def _sorted_masks(table, split):
    """Return the taps of each row as bits, int32 (rows, 1), sorted, and the rows they belong to."""
    bits = (table >= 0).long() << torch.arange(len(table))[:, None]
    values, order = torch.sort(bits.sum(0) & split, stable=True)
    return torch.where(values >= 2**31, values - 2**32, values).int()[:, None], order.int()


def _pairs_of(pairs, counts, inverse, subm):
    """Yield (tap, rows in, rows out), the centre of a submanifold window left out."""
    taps = len(counts)
    for tap in range(taps):
        count = int(counts[taps - 1 - tap if subm and tap > taps // 2 else tap])
        if count and not (subm and tap == taps // 2):
            yield (
                tap,
                pairs[int(inverse), tap, :count].long(),
                pairs[1 - inverse, tap, :count].long(),
            )
