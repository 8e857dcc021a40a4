"""Prints what test_inception expects: pytorch-fid's own network on the same random weights.

pip install torch torchvision pytorch-fid && PYTHONPATH=. python tests/models/features/inception_reference.py
"""

import numpy as np
import skimage.data
import torch
from pytorch_fid import inception as reference

from tests.models.features import test_inception


def main() -> None:
    # The network with the published pooling; its weights are replaced, so nothing is downloaded.
    reference.load_state_dict_from_url = lambda *args, **kwargs: whole.state_dict()
    whole = reference._inception_v3(num_classes=1008, aux_logits=False, weights=None)
    whole.Mixed_5b = reference.FIDInceptionA(192, pool_features=32)
    whole.Mixed_5c = reference.FIDInceptionA(256, pool_features=64)
    whole.Mixed_5d = reference.FIDInceptionA(288, pool_features=64)
    whole.Mixed_6b = reference.FIDInceptionC(768, channels_7x7=128)
    whole.Mixed_6c = reference.FIDInceptionC(768, channels_7x7=160)
    whole.Mixed_6d = reference.FIDInceptionC(768, channels_7x7=160)
    whole.Mixed_6e = reference.FIDInceptionC(768, channels_7x7=192)
    whole.Mixed_7b = reference.FIDInceptionE_1(1280)
    whole.Mixed_7c = reference.FIDInceptionE_2(2048)
    held = whole.state_dict()
    for name, value in test_inception.random_tensors().items():
        assert held[name].shape == value.shape, name
        held[name] = torch.from_numpy(value)
    whole.load_state_dict(held)
    network = reference.InceptionV3([3]).eval()
    pictures = np.stack([skimage.data.astronaut()[:200, :260], skimage.data.coffee()[:200, :260]]) / np.float32(255)
    with torch.no_grad():
        found = network(torch.from_numpy(pictures.astype(np.float32)).permute(0, 3, 1, 2))[0][:, :, 0, 0].numpy()
    print("EXPECTED =", np.round(found[:, :4], 6).tolist())
    print("MEANS =", np.round(found.mean(1), 6).tolist())


if __name__ == "__main__":
    main()
