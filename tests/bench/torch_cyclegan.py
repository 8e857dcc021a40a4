"""One CycleGAN training step in PyTorch, the yardstick of bench_step.py. Not used by gqst.

Written from the description in Zhu et al. 2017 (https://arxiv.org/abs/1703.10593, section 4 and
appendix): ResNet generators, 70x70 PatchGAN discriminators, least-squares loss, cycle and identity
L1, Adam at 2e-4.
"""

import itertools
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional


def _block(inputs: int, outputs: int, size: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, size, stride, 1), nn.InstanceNorm2d(outputs)]


class Residual(nn.Module):
    """Returns x plus two reflection-padded 3x3 convolutions of x."""

    def __init__(self, channels: int):
        super().__init__()
        layers = []
        for activation in (nn.ReLU(inplace=True), nn.Identity()):
            layers += [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3)]
            layers += [nn.InstanceNorm2d(channels), activation]
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.layers(x)


def generator(filters: int, blocks: int) -> nn.Module:
    """Returns c7s1-k, d2k, d4k, R4k x blocks, u2k, uk, c7s1-3, in the paper's notation."""
    layers = [nn.ReflectionPad2d(3), nn.Conv2d(3, filters, 7), nn.InstanceNorm2d(filters)]
    layers += [nn.ReLU(inplace=True)]
    for width in (filters, 2 * filters):
        layers += [*_block(width, 2 * width, 3, 2), nn.ReLU(inplace=True)]
    layers += [Residual(4 * filters) for _ in range(blocks)]
    for width in (4 * filters, 2 * filters):
        layers += [nn.ConvTranspose2d(width, width // 2, 3, 2, 1, output_padding=1)]
        layers += [nn.InstanceNorm2d(width // 2), nn.ReLU(inplace=True)]
    layers += [nn.ReflectionPad2d(3), nn.Conv2d(filters, 3, 7), nn.Tanh()]
    return nn.Sequential(*layers)


def discriminator(filters: int) -> nn.Module:
    """Returns C64-C128-C256-C512 with 4x4 kernels and a map of logits: a 70x70 receptive field."""
    layers = [nn.Conv2d(3, filters, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
    for width, stride in ((filters, 2), (2 * filters, 2), (4 * filters, 1)):
        layers += [*_block(width, 2 * width, 4, stride), nn.LeakyReLU(0.2, inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(8 * filters, 1, 4, 1, 1))


def step(size: int, batch: int, filters: int, blocks: int) -> Callable[[], float]:
    """Returns a function that makes one training step on fixed random images and gives the loss."""
    torch.manual_seed(0)
    to_y, to_x = generator(filters, blocks), generator(filters, blocks)
    disc_y, disc_x = discriminator(filters), discriminator(filters)
    for parameter in itertools.chain(*(m.parameters() for m in (to_y, to_x, disc_y, disc_x))):
        (nn.init.normal_(parameter, 0, 0.02) if parameter.ndim > 1 else nn.init.zeros_(parameter))

    def adam(*modules):
        parameters = itertools.chain(*(module.parameters() for module in modules))
        return torch.optim.Adam(parameters, lr=2e-4, betas=(0.5, 0.999))

    generators, discriminators = adam(to_y, to_x), adam(disc_y, disc_x)
    x, y = torch.rand(2, batch, 3, size, size) * 2 - 1

    def against(logits, label):
        return functional.mse_loss(logits, torch.full_like(logits, label))

    def run() -> float:
        # Generators. Frozen discriminators save their filter gradients, as the authors do.
        for parameter in itertools.chain(disc_x.parameters(), disc_y.parameters()):
            parameter.requires_grad_(False)
        fake_y, fake_x = to_y(x), to_x(y)
        loss = against(disc_y(fake_y), 1.0) + against(disc_x(fake_x), 1.0)
        loss = loss + 10 * (functional.l1_loss(to_x(fake_y), x) + functional.l1_loss(to_y(fake_x), y))
        loss = loss + 5 * (functional.l1_loss(to_y(y), y) + functional.l1_loss(to_x(x), x))
        generators.zero_grad(set_to_none=True)
        loss.backward()
        generators.step()
        # Discriminators, on detached fakes.
        for parameter in itertools.chain(disc_x.parameters(), disc_y.parameters()):
            parameter.requires_grad_(True)
        discriminators.zero_grad(set_to_none=True)
        for module, real, fake in ((disc_y, y, fake_y.detach()), (disc_x, x, fake_x.detach())):
            (0.5 * (against(module(real), 1.0) + against(module(fake), 0.0))).backward()
        discriminators.step()
        return loss.item()

    return run
