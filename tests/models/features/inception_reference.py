"""Prints the expected values of test_inception: features of pytorch-fid's network on the same random weights.

Command: pip install torch torchvision pytorch-fid && PYTHONPATH=. python tests/models/features/inception_reference.py
"""

import numpy as np
import skimage.data
import torch
from pytorch_fid import inception as reference

from tests.models.features import test_inception


def main() -> None:
    # The network with the published pooling. Its weights are replaced, so nothing is downloaded.
    reference.load_state_dict_from_url = lambda *args, **kwargs: torchvision.state_dict()
    torchvision = reference._inception_v3(num_classes=1008, aux_logits=False, weights=None)
    torchvision.Mixed_5b = reference.FIDInceptionA(192, pool_features=32)
    torchvision.Mixed_5c = reference.FIDInceptionA(256, pool_features=64)
    torchvision.Mixed_5d = reference.FIDInceptionA(288, pool_features=64)
    torchvision.Mixed_6b = reference.FIDInceptionC(768, channels_7x7=128)
    torchvision.Mixed_6c = reference.FIDInceptionC(768, channels_7x7=160)
    torchvision.Mixed_6d = reference.FIDInceptionC(768, channels_7x7=160)
    torchvision.Mixed_6e = reference.FIDInceptionC(768, channels_7x7=192)
    torchvision.Mixed_7b = reference.FIDInceptionE_1(1280)
    torchvision.Mixed_7c = reference.FIDInceptionE_2(2048)
    tensors = torchvision.state_dict()
    for name, value in test_inception.random_tensors().items():
        assert tensors[name].shape == value.shape, name
        tensors[name] = torch.from_numpy(value)
    torchvision.load_state_dict(tensors)
    network = reference.InceptionV3([3]).eval()
    pictures = np.stack([skimage.data.astronaut()[:200, :260], skimage.data.coffee()[:200, :260]]) / np.float32(255)
    with torch.no_grad():
        features = network(torch.from_numpy(pictures.astype(np.float32)).permute(0, 3, 1, 2))[0][:, :, 0, 0].numpy()
    print("EXPECTED =", np.round(features[:, :4], 6).tolist())
    print("MEANS =", np.round(features.mean(1), 6).tolist())


if __name__ == "__main__":
    main()
