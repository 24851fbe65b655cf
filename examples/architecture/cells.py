"""A small convolutional network made of cells, in numpy: forwards, backwards, Adam. Nothing here knows of kubetune.

Images are (n, height, width, channels); a cell is one operation on them.
"""

import dataclasses
from typing import Any

import numpy as np

Array = Any  # numpy's arrays


@dataclasses.dataclass(frozen=True)
class Cell:
    """``operation``: conv3 or conv1 (a convolution of so many pixels a side), pool (means of 2 x 2) or skip."""

    operation: str
    activation: str = "relu"


class Conv:
    """A convolution that keeps height and width, then its activation."""

    def __init__(self, side: int, inputs: int, outputs: int, activation: str, rng: np.random.Generator) -> None:
        self.side, self.activation = side, activation
        spread = np.sqrt(2 / (side * side * inputs))
        self.weights = [rng.normal(0, spread, (side * side * inputs, outputs)), np.zeros(outputs)]

    def forward(self, x: Array) -> Array:
        edge = self.side // 2
        padded = np.pad(x, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
        height, width = x.shape[1:3]
        around = [padded[:, i : i + height, j : j + width] for i in range(self.side) for j in range(self.side)]
        self.columns, self.shape = np.concatenate(around, axis=3), x.shape
        z = self.columns @ self.weights[0] + self.weights[1]
        self.out = np.maximum(z, 0) if self.activation == "relu" else np.tanh(z)
        return self.out

    def backward(self, slope: Array) -> Array:
        slope = slope * ((self.out > 0) if self.activation == "relu" else 1 - self.out**2)
        flat = slope.reshape(-1, slope.shape[3])
        self.slopes = [self.columns.reshape(len(flat), -1).T @ flat, flat.sum(axis=0)]
        back = slope @ self.weights[0].T
        edge, (_, height, width, channels) = self.side // 2, self.shape
        padded = np.zeros((len(slope), height + 2 * edge, width + 2 * edge, channels))
        for place in range(self.side**2):
            i, j = divmod(place, self.side)
            padded[:, i : i + height, j : j + width] += back[..., place * channels : (place + 1) * channels]
        return padded[:, edge : edge + height, edge : edge + width]


class Pool:
    """Means of 2 x 2; an image of one pixel stays."""

    weights: list[Array] = []  # noqa: RUF012
    slopes: list[Array] = []  # noqa: RUF012

    def forward(self, x: Array) -> Array:
        self.side = 2 if x.shape[1] > 1 else 1
        n, height, width, channels = x.shape
        side = self.side
        return x.reshape(n, height // side, side, width // side, side, channels).mean(axis=(2, 4))

    def backward(self, slope: Array) -> Array:
        return slope.repeat(self.side, axis=1).repeat(self.side, axis=2) / self.side**2


class Dense:
    """From all pixels to the classes."""

    def __init__(self, inputs: int, classes: int, rng: np.random.Generator) -> None:
        self.weights = [rng.normal(0, np.sqrt(1 / inputs), (inputs, classes)), np.zeros(classes)]

    def forward(self, x: Array) -> Array:
        self.shape, self.rows = x.shape, x.reshape(len(x), -1)
        return self.rows @ self.weights[0] + self.weights[1]

    def backward(self, slope: Array) -> Array:
        self.slopes = [self.rows.T @ slope, slope.sum(axis=0)]
        return (slope @ self.weights[0].T).reshape(self.shape)


class Network:
    """Cells, then one dense layer."""

    def __init__(self, cells: list[Cell], channels: int, image: tuple[int, int], classes: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.layers: list[Conv | Pool | Dense] = []
        side, depth = image[0], 1
        for cell in cells:
            if cell.operation in ("conv3", "conv1"):
                self.layers.append(Conv(int(cell.operation[-1]), depth, channels, cell.activation, rng))
                depth = channels
            elif cell.operation == "pool":
                self.layers.append(Pool())
                side = max(1, side // 2)
        self.layers.append(Dense(side * side * depth, classes, rng))
        self.weights = [weight for layer in self.layers for weight in layer.weights]
        self._moments = [(np.zeros_like(weight), np.zeros_like(weight)) for weight in self.weights]
        self._steps = 0

    def size(self) -> int:
        """How many weights."""
        return sum(weight.size for weight in self.weights)

    def scores(self, images: Array) -> Array:
        for layer in self.layers:
            images = layer.forward(images)
        return images

    def learn(self, images: Array, digits: Array, rate: float) -> float:
        """One step of Adam on the cross-entropy; returns it."""
        scores = self.scores(images)
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        odds /= odds.sum(axis=1, keepdims=True)
        rows = np.arange(len(digits))
        loss = float(-np.log(odds[rows, digits] + 1e-12).mean())
        odds[rows, digits] -= 1
        slope = odds / len(digits)
        for layer in reversed(self.layers):
            slope = layer.backward(slope)
        self._steps += 1
        slopes = [each for layer in self.layers for each in layer.slopes]
        for weight, each, (mean, square) in zip(self.weights, slopes, self._moments, strict=True):
            mean += 0.1 * (each - mean)
            square += 0.001 * (each**2 - square)
            step = (mean / (1 - 0.9**self._steps)) / (np.sqrt(square / (1 - 0.999**self._steps)) + 1e-8)
            weight -= rate * step
        return loss
