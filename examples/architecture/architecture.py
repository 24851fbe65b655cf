"""One architecture, trained for a few seconds on scikit-learn's digits; reports accuracy and size after each epoch."""

import argparse

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import kubetune_trial
from cells import Cell, Network

MOST = 3  # cells
BATCH = 32


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a network of cells.")
    parser.add_argument("--cells", type=int, choices=range(1, MOST + 1), default=1)
    for place in range(1, MOST + 1):
        parser.add_argument(f"--op{place}", choices=["conv3", "conv1", "pool", "skip"], default="skip")
        parser.add_argument(f"--act{place}", choices=["relu", "tanh"], default="relu")
    parser.add_argument("--channels", type=int, default=8, help="of each convolution")
    parser.add_argument("--lr", type=float, default=0.003)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def parts() -> tuple[np.ndarray, ...]:
    """Images and digits: 60 % to train on, 20 % to validate; the last fifth is left for the end."""
    images, digits = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1) / 16.0
    images, _, digits, _ = train_test_split(images, digits, test_size=0.2, random_state=0, stratify=digits)
    return tuple(train_test_split(images, digits, test_size=0.25, random_state=0, stratify=digits))


def main() -> None:
    options = arguments()
    train, validation, train_digits, validation_digits = parts()
    chosen = [(getattr(options, f"op{place}"), getattr(options, f"act{place}")) for place in range(1, MOST + 1)]
    cells = [Cell(*each) for each in chosen[: options.cells]]
    network = Network(cells, options.channels, (8, 8), 10, options.seed)
    print("cells:", ", ".join(cell.operation for cell in cells), f"({network.size()} weights)", flush=True)
    rng = np.random.default_rng(options.seed)
    for epoch in range(1, options.epochs + 1):
        order = rng.permutation(len(train))
        batches = [order[first : first + BATCH] for first in range(0, len(order), BATCH)]
        loss = np.mean([network.learn(train[batch], train_digits[batch], options.lr) for batch in batches])
        accuracy = float((network.scores(validation).argmax(axis=1) == validation_digits).mean())
        print(f"epoch {epoch}: loss {loss:.4f}, accuracy {accuracy:.4f}", flush=True)
        if kubetune_trial.report(epoch, accuracy=accuracy, loss=loss, weights=network.size()):
            return


if __name__ == "__main__":
    main()
