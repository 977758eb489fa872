"""Lightning modules and callbacks."""

from spcnn_lightning.modules.checkpoint_io import AtomicCheckpointIO
from spcnn_lightning.modules.checkpoints import LastCheckpoint
from spcnn_lightning.modules.classifier import NonFiniteLossError, SparseClassifier
from spcnn_lightning.modules.counting import LayerCount, count_layers, format_counts, total_macs
from spcnn_lightning.modules.defaults import best_and_last, default_callbacks
from spcnn_lightning.modules.maps_ahead import KernelMapsAhead
from spcnn_lightning.modules.pictures import PictureLogger
from spcnn_lightning.modules.prediction import Prediction, PredictionWriter
from spcnn_lightning.modules.rank_watch import RankWatch
from spcnn_lightning.modules.sparsity import SparseModelSummary
from spcnn_lightning.modules.warm_up import WarmUp

__all__ = [
    "AtomicCheckpointIO",
    "KernelMapsAhead",
    "LastCheckpoint",
    "LayerCount",
    "NonFiniteLossError",
    "PictureLogger",
    "Prediction",
    "PredictionWriter",
    "RankWatch",
    "SparseClassifier",
    "SparseModelSummary",
    "WarmUp",
    "best_and_last",
    "count_layers",
    "default_callbacks",
    "format_counts",
    "total_macs",
]
