"""Dense definitions of every operation, and the dense twin of a sparse network."""

from spcnn_lightning.reference.export import export_dense
from spcnn_lightning.reference.twin import dense_twin

__all__ = ["dense_twin", "export_dense"]
