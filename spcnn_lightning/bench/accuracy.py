"""How far a contender is from the dense network in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from spcnn_lightning.bench.contender import Contender, Setting, stages_of
from spcnn_lightning.bench.contenders import make_contender
from spcnn_lightning.bench.values import Value, activity_mask, as_dense, first_samples, loss_of
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.reference.dense import TORCH_DIMENSIONS
from spcnn_lightning.reference.dense_field import DenseField
from spcnn_lightning.reference.twin import dense_twin


@dataclass(frozen=True)
class Reference:
    """What the dense twin says in float64 on the first samples of the batch.

    Attributes:
        batch: These samples.
        targets: Their targets, or None.
        stages: Dense result of each stage.
        gradients: Of the loss, by parameter.
    """

    batch: SparseBatch
    targets: Tensor | None
    stages: dict[str, Tensor]
    gradients: dict[str, Tensor]


@dataclass(frozen=True)
class Errors:
    """Largest errors over the largest entry: of each stage, of the result, of the gradients."""

    stages: dict[str, float]
    result: float
    gradient: float | None


def dense_reference(
    network: nn.Module, batch: SparseBatch, targets: Tensor | None, samples: int
) -> Reference:
    """Run the dense twin in float64 on the CPU, in evaluation mode.

    In evaluation mode, since dropout and batch statistics would only make the comparison depend
    on things that the engine does not compute.

    Raises:
        TypeError: If the network has no dense form, or more dimensions than torch's convolution.
    """
    if len(batch.spatial_shape) > TORCH_DIMENSIONS:
        raise TypeError(
            f"there is no fast dense reference in {len(batch.spatial_shape)} dimensions"
        )
    small = first_samples(batch, samples).to(torch.float64)
    chosen = None if targets is None else targets[: small.batch_size]
    own = copy.deepcopy(network).double().eval()
    twin = dense_twin(own)
    results: dict[str, Tensor] = {}
    paths = [path for path, _ in stages_of(network)]
    for path in paths if paths != ["network"] else []:
        twin.get_submodule(path).register_forward_hook(_recorder(results, path))
    mask = activity_mask(small) if twin.needs_mask else None
    out = twin.run(small.to_dense(), small.ground_state, mask)
    results[paths[-1]] = as_dense(out)
    _loss(out, chosen).backward()  # type: ignore[no-untyped-call]  # torch's
    gradients = {name: p.grad for name, p in own.named_parameters() if p.grad is not None}
    return Reference(small, chosen, results, gradients)


def errors_of(name: str, network: nn.Module, setting: Setting, reference: Reference) -> Errors:
    """Return the errors of the engine ``name`` on the samples of the reference.

    The gradients of the plain dense network are not compared: its weights lie otherwise.
    """
    evaluation = replace(setting, training=False)
    contender = make_contender(name, network, reference.batch, evaluation)
    value: Value = contender.fresh()
    found: dict[str, Value] = {}
    with setting.context():
        for path, stage in contender.stages:
            value = found[path] = stage(value)
    stages = {
        path: relative_error(as_dense(result), reference.stages[path])
        for path, result in found.items()
        if path in reference.stages
    }
    targets = reference.targets
    loss = _loss(value, None if targets is None else targets.to(setting.device))
    if loss.requires_grad:  # a gradient that is missing counts as zeros
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
    return Errors(stages, stages[contender.stages[-1][0]], _gradient_error(contender, reference))


def _loss(value: Value, targets: Tensor | None) -> Tensor:
    """Return the loss of the whole field: of inactive sites too, as the dense form has it."""
    return loss_of(value.to_dense() if isinstance(value, SparseBatch) else value, targets)


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return the largest error over the largest entry of ``expected``; both may be empty."""
    if expected.numel() == 0:
        return 0.0
    scale = float(expected.abs().max())
    return float((found - expected).abs().max()) / (scale or 1.0)


def _gradient_error(contender: Contender, reference: Reference) -> float | None:
    own = dict(contender.network.named_parameters())
    if not reference.gradients.keys() <= own.keys():
        return None
    errors = [0.0]
    for name, expected in reference.gradients.items():
        gradient = own[name].grad
        found = torch.zeros_like(expected) if gradient is None else gradient.cpu().double()
        errors.append(relative_error(found, expected))
    return float(torch.tensor(errors, dtype=torch.float64).max())  # NaN is the worst of all


def _recorder(
    results: dict[str, Tensor], path: str
) -> Callable[[nn.Module, object, DenseField | Tensor], None]:
    def record(module: nn.Module, args: object, out: DenseField | Tensor) -> None:
        results[path] = as_dense(out)

    return record
