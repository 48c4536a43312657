"""conv12 and conv4 as PyTorch has them, for what is measured beside retort."""

from torch import nn

from compare import CONVS

CLASSES = 200
UNIT = 8  # channels that tensor cores take at once


def padded(channels, wanted):
    return -(-channels // UNIT) * UNIT if wanted else channels


def network(arch, size, pad=False):
    """With `pad`, channels are rounded up as other libraries do in memory: some more weights."""
    layers, inputs = [], padded(3, pad)
    for channels, stride in CONVS[arch]:
        channels = padded(channels, pad)
        layers += [nn.Conv2d(inputs, channels, 3, stride, padding=1, bias=False),
                   nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
        inputs, size = channels, size // stride
    return nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(),
                         nn.Linear(inputs * (size // 2) ** 2, 512), nn.ReLU(inplace=True),
                         nn.Linear(512, CLASSES))
