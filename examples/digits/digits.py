"""What both trials share: the data in three parts, and the network. Nothing here knows of kubetune."""

import argparse
import dataclasses
import os
import pathlib

import numpy
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.neural_network import MLPClassifier

CLASSES = numpy.arange(10)
KNOWN = pathlib.Path(__file__).with_name("known.csv")  # of hold_out.py, in the image of Dockerfile.honest
TEST = pathlib.Path(os.environ.get("DIGITS_TEST", "/held-out/test.csv"))
SHIFTS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]


@dataclasses.dataclass(frozen=True)
class Part:
    """Images (n × 64, 0…1) and the digits they show (n)."""

    images: numpy.ndarray
    digits: numpy.ndarray


def parts(small: bool = False, fold: int = 0, folds: int = 1) -> tuple[Part, Part, Part]:
    """Train (60 %), validation (20 %: what the search sees) and test (20 %: what it never sees); always the same.
    ``small``: trained on the images as they are, not on moved ones too. With ``folds`` > 1 the 80 % that are not for
    the test are cut into so many, and ``fold`` (from 0) is for validation."""
    known, test = halves()
    if folds > 1:
        cut = list(StratifiedKFold(folds, shuffle=True, random_state=0).split(known.images, known.digits))
        learned, held = (Part(known.images[rows], known.digits[rows]) for rows in cut[fold])
    else:
        train, validation, train_digits, validation_digits = train_test_split(
            known.images, known.digits, test_size=0.25, random_state=0, stratify=known.digits
        )
        learned, held = Part(train, train_digits), Part(validation, validation_digits)
    return learned if small else shifted(learned), held, test


def halves() -> tuple[Part, Part]:
    """All but the test part, and the test part. Where hold_out.py has taken the two apart, the test part is empty
    unless its file is mounted."""
    if KNOWN.exists():
        return _read(KNOWN), _read(TEST)
    images, digits = load_digits(return_X_y=True)
    known, test, known_digits, test_digits = train_test_split(
        images / 16.0, digits, test_size=0.2, random_state=0, stratify=digits
    )
    return Part(known, known_digits), Part(test, test_digits)


def _read(path: pathlib.Path) -> Part:
    rows = numpy.loadtxt(path, delimiter=",", dtype=int) if path.exists() else numpy.empty((0, 65), dtype=int)
    return Part(rows[:, :64] / 16.0, rows[:, 64])


def shifted(part: Part) -> Part:
    """Each image nine times, moved by at most one pixel: a digit stays a digit."""
    padded = numpy.pad(part.images.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
    moved = [padded[:, 1 + dy : 9 + dy, 1 + dx : 9 + dx].reshape(-1, 64) for dy, dx in SHIFTS]
    return Part(numpy.concatenate(moved), numpy.tile(part.digits, len(SHIFTS)))


def arguments() -> argparse.Namespace:
    """The hyperparameters, as a command line."""
    parser = argparse.ArgumentParser(description="Learn handwritten digits.")
    parser.add_argument("--lr", type=float, default=0.001, help="learning rate")
    parser.add_argument("--layers", type=int, default=1, help="hidden layers")
    parser.add_argument("--units", type=int, default=64, help="in each of them")
    parser.add_argument("--activation", choices=["relu", "tanh"], default="relu")
    parser.add_argument("--alpha", type=float, default=1e-4, help="L2 penalty")
    parser.add_argument("--batch", type=int, default=32, help="images a gradient step")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--fold", type=int, default=0, help="of a cross-validation: the one to validate on")
    parser.add_argument("--folds", type=int, default=1, help="how many there are; 1: no cross-validation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true", help="a ninth of the data: an epoch takes milliseconds")
    parser.add_argument("--full-data", action="store_true", help="for the winner: learn from the validation part too")
    parser.add_argument("--models", default=".", help="where the model of --full-data is kept")
    parser.add_argument("--score-test-set", action="store_true", help="for the winner, once, at the very end")
    return parser.parse_args()


def network(options: argparse.Namespace) -> MLPClassifier:
    return MLPClassifier(
        hidden_layer_sizes=[options.units] * options.layers,
        activation=options.activation,
        learning_rate_init=options.lr,
        alpha=options.alpha,
        batch_size=options.batch,
        random_state=options.seed,
    )
