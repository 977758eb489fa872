"""Zero-pinned mode: the ground state is held at zero, as other sparse libraries have it."""

from __future__ import annotations

from torch import nn

from spcnn_lightning.core.sparse_batch import SparseBatch


class PinGround(nn.Module):
    """Set the ground state to zero and leave the active sites as they are.

    spconv, TorchSparse, MinkowskiEngine and SparseConvNet hold zero at every inactive site, also
    where a bias or a normalisation would say otherwise. With this layer after each such layer a
    network computes what it computes there. The price: its result depends on which sites are
    active and is no longer that of the dense network.
    """

    def forward(self, batch: SparseBatch) -> SparseBatch:
        """Return the batch with ground state zero."""
        return batch.replace(ground_state=batch.ground_state.new_zeros(batch.num_channels))
