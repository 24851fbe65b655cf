"""Two tasks that are alike: scikit-learn's digits as they are, and from a noisy scanner, of which few are labelled."""

import numpy
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

CLASSES = numpy.arange(10)
FEW = 100  # labelled images of the new task
Part = tuple[numpy.ndarray, numpy.ndarray]


def network() -> MLPClassifier:
    return MLPClassifier(hidden_layer_sizes=[64], batch_size=20, random_state=0)


def old_task() -> Part:
    """Half of the images, as they are."""
    images, digits = load_digits(return_X_y=True)
    old, _, labels, _ = train_test_split(images / 16.0, digits, test_size=0.5, random_state=0, stratify=digits)
    return old, labels


def new_task() -> tuple[Part, Part]:
    """The other half, noisy: `FEW` to train on, the rest to validate."""
    images, digits = load_digits(return_X_y=True)
    _, new, _, labels = train_test_split(images / 16.0, digits, test_size=0.5, random_state=0, stratify=digits)
    noisy = numpy.clip(new + numpy.random.RandomState(0).normal(0, 0.3, new.shape), 0, 1)
    train, validation, known, hidden = train_test_split(noisy, labels, train_size=FEW, random_state=0, stratify=labels)
    return (train, known), (validation, hidden)
