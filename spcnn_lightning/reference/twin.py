"""The dense twin: the same network on dense fields, with the same parameters."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from spcnn_lightning.reference.dense_field import DenseField, make_dense_field
from spcnn_lightning.reference.dense_layers import DENSE_FORMS, DenseForm, needs_mask
from spcnn_lightning.reference.export import export_dense

__all__ = ["DenseForm", "DenseTwin", "dense_twin", "export_dense"]


def dense_twin(
    network: nn.Module, forms: Mapping[type[nn.Module], DenseForm] | None = None
) -> DenseTwin:
    """Return the dense form of a network: same function, same parameters.

    The twin *shares* parameters and buffers: its ``state_dict`` has the keys of the network's,
    gradients accumulate in the same tensors, and a training pass through either updates the
    running statistics. Training mode and the seed and step of dropout are copied once: call
    network and twin once each, and they draw the same masks.

    Modules may be nested at will, as long as their forward methods only hand batches on from layer
    to layer.

    Args:
        network: Built of our layers, of ``torch.nn`` modules behind the readout, and of modules
            that combine them.
        forms: Dense forward functions of other layers, by class.

    Raises:
        TypeError: If a layer has no known dense form.

    Example:
        >>> network = DeepCNet(levels=2, width=4, in_channels=1, num_classes=3)
        >>> x = torch.rand(2, 1, 12, 12)
        >>> torch.allclose(dense_twin(network)(x), network(SparseBatch.from_dense(x)), atol=1e-6)
        True
    """
    known = {**DENSE_FORMS, **(forms or {})}
    return DenseTwin(_Mirroring(known).mirror(network, type(network).__name__))


class DenseTwin(nn.Module):
    """A network that takes dense fields; see `dense_twin`, which makes it."""

    _mirror: nn.Module

    def __init__(self, mirror: nn.Module) -> None:
        super().__init__()
        for name in (*_SHARED, "_modules"):
            vars(self)[name] = vars(mirror)[name]
        self.training = mirror.training
        # Not registered: its parameters and children are this module's own already.
        vars(self)["_mirror"] = mirror

    @property
    def needs_mask(self) -> bool:
        """Whether a layer's result depends on which sites are active, in the present mode."""
        return bool(self._layers_that_need_a_mask())

    def forward(
        self, x: Tensor, ground_state: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Return what the network returns; a sparse result as a dense field.

        Args:
            x: Shape (B, C, *spatial_shape).
            ground_state: Shape (C,): what an inactive site of ``x`` holds; zeros if not given.
            mask: bool, shape (B, *spatial_shape): the active sites. Needed if `needs_mask`.

        Raises:
            ValueError: If shapes disagree, or a mask is needed and not given.
        """
        result = self.run(x, ground_state, mask)
        out: Tensor = result.values if isinstance(result, DenseField) else result
        return out

    def run(self, x: Tensor, ground_state: Tensor | None = None, mask: Tensor | None = None) -> Any:
        """Return the same as `forward`, with ground state and mask where a field comes out."""
        if mask is None and (names := self._layers_that_need_a_mask()):
            raise ValueError(
                f"the result of {', '.join(names)} depends on which sites are active, and values "
                "do not tell: give the activity mask, bool of shape "
                f"{(x.shape[0], *x.shape[2:])}, as third argument"
            )
        return self._mirror(make_dense_field(x, ground_state, mask))

    def train(self, mode: bool = True) -> DenseTwin:
        """Set training or evaluation mode, of the twin alone."""
        super().train(mode)
        self._mirror.train(mode)
        return self

    def _layers_that_need_a_mask(self) -> list[str]:
        return [
            f"{name or 'the network'} ({type(layer).__name__})"
            for name, layer in self._mirror.named_modules()
            if needs_mask(layer)
        ]


class _Mirroring:
    """Builds a tree of the same classes that shares the tensors and runs on dense fields."""

    def __init__(self, forms: Mapping[type[nn.Module], DenseForm]) -> None:
        self.forms = forms
        self.done: dict[int, nn.Module] = {}

    def mirror(self, module: nn.Module, path: str) -> nn.Module:
        if id(module) in self.done:
            return self.done[id(module)]
        form = self._form_of(module)
        from_torch = type(module).__module__.startswith("torch.nn.")
        if form is None and not module._modules and not from_torch:
            raise TypeError(
                f"{path} is a {type(module).__name__}, which has no dense form: build the network "
                "of spcnn_lightning.nn layers, or give its forward on a DenseField in "
                f"dense_twin(network, forms={{{type(module).__name__}: function}})"
            )
        mirror = self.done[id(module)] = _same_class_and_tensors(module)
        if form is not None:
            # Its children, an activation's function say, are the form's own business.
            mirror._modules.update(module._modules)
            mirror.forward = functools.partial(form, mirror)
            return mirror
        for name, child in module._modules.items():
            mirror._modules[name] = child and self.mirror(child, f"{path}.{name}")
        return mirror

    def _form_of(self, module: nn.Module) -> DenseForm | None:
        """Return the dense form of a layer; a subclass with its own forward is another layer."""
        for cls, form in self.forms.items():
            if isinstance(module, cls) and type(module).forward is cls.forward:
                return form
        return None


_SHARED = ("_parameters", "_buffers", "_non_persistent_buffers_set")


def _same_class_and_tensors(module: nn.Module) -> nn.Module:
    mirror = type(module).__new__(type(module))
    nn.Module.__init__(mirror)  # hooks of its own: those of the network expect sparse batches
    for name, value in vars(module).items():
        if name in _SHARED or name not in {*vars(mirror), "_compiled_call_impl"}:
            vars(mirror)[name] = value
    mirror.training = module.training
    return mirror
