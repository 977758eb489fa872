"""Nothing of an engine is in a state dict."""

import io

import torch

from spcnn_lightning.networks import DeepCNet

NAMES = ("auto", "torch", "spconv", "torchsparse", "spconv_triton")


def test_a_state_dict_has_no_trace_of_a_backend():
    files = []
    for name in NAMES:
        torch.manual_seed(0)
        network = DeepCNet(levels=2, width=4, in_channels=1, num_classes=3, backend=name)
        with io.BytesIO() as file:
            torch.save(network.state_dict(), file)
            files.append(file.getvalue())
        shapes = {key: value.shape for key, value in network.state_dict().items()}
        assert all(type(value) is torch.Tensor for value in network.state_dict().values())
        assert shapes["layers.0.weight"] == (9, 1, 4)
    assert len(set(files)) == 1
    assert not any(name.encode() in files[0] for name in NAMES if name != "torch")


def test_a_checkpoint_loads_under_any_backend_name():
    trained = DeepCNet(levels=2, width=4, in_channels=1, num_classes=3, backend="spconv")
    for name in NAMES:
        network = DeepCNet(levels=2, width=4, in_channels=1, num_classes=3, backend=name)
        network.load_state_dict(trained.state_dict())
