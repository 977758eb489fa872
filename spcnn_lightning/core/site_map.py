"""What all kernel maps have in common: a window, and the sites that it leads to."""

from __future__ import annotations

import weakref
from typing import Any

from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.geometry import Activity, ConvGeometry


class SiteMap:
    """Base of the kernel maps of all backends.

    An active set keeps the maps built on it. The output of a submanifold window is that set itself,
    so the map refers to it weakly: otherwise neither would die with the batch. Keep, move and
    pickle a map with its set, never alone.

    Attributes:
        geometry: The window.
        num_outputs: Number of output rows, M.
    """

    def __init__(self, geometry: ConvGeometry, output: ActiveSet) -> None:
        self.geometry = geometry
        self.num_outputs = output.num_sites
        self._link(output)

    @property
    def output(self) -> ActiveSet:
        """The active set of the output, M sites.

        Raises:
            ReferenceError: If the window is submanifold and the set that it was built on is gone.
        """
        found = self._output() if isinstance(self._output, weakref.ref) else self._output
        if found is None:
            raise ReferenceError(
                "the active set of this submanifold kernel map is gone: keep the set with its map"
            )
        return found

    def _link(self, output: ActiveSet) -> None:
        same = self.geometry.activity is Activity.SUBMANIFOLD
        self._output: ActiveSet | weakref.ref[ActiveSet] = weakref.ref(output) if same else output

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_output": self.output}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._link(state["_output"])
