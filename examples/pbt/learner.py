"""What is trained: a linear classifier of handwritten digits, by stochastic gradient descent. A quarter of the training
labels is drawn at random: so the learning rate should be large at first and small at the end, and nobody knows when.

Nothing here knows of kubetune.
"""

import dataclasses
import functools

import numpy
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

CLASSES = numpy.arange(10)
DRAWN = 0.25  # of the training labels


@dataclasses.dataclass(frozen=True)
class Part:
    """Images (n × 64, 0…1) and the digits they are said to show (n)."""

    images: numpy.ndarray
    digits: numpy.ndarray


@functools.cache
def parts() -> tuple[Part, Part, Part]:
    """Train (60 %), validation (20 %: what the search sees) and test (20 %: what it never sees); always the same."""
    images, digits = load_digits(return_X_y=True)
    rest, test, rest_digits, test_digits = train_test_split(
        images / 16.0, digits, test_size=0.2, random_state=0, stratify=digits
    )
    train, validation, train_digits, validation_digits = train_test_split(
        rest, rest_digits, test_size=0.25, random_state=0, stratify=rest_digits
    )
    dice = numpy.random.default_rng(0)
    drawn = dice.random(len(train_digits)) < DRAWN
    said = numpy.where(drawn, dice.integers(0, 10, len(train_digits)), train_digits)
    return Part(train, said), Part(validation, validation_digits), Part(test, test_digits)


def beginner(seed: int) -> SGDClassifier:
    """One that has learned nothing."""
    return SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.1, random_state=seed)


def train_one_epoch(learner: SGDClassifier, lr: float, alpha: float) -> None:
    """``lr``: the learning rate; ``alpha``: of the L2 penalty."""
    train = parts()[0]
    learner.set_params(eta0=lr, alpha=alpha)
    learner.partial_fit(train.images, train.digits, classes=CLASSES)


def loss(learner: SGDClassifier, part: Part) -> float:
    """How surprised it is by the right answers, in nats a digit."""
    return float(log_loss(part.digits, learner.predict_proba(part.images), labels=CLASSES))
