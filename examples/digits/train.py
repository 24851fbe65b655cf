"""A trial that reports each epoch and stops when it is told to. Without a cluster it is an ordinary program."""

import argparse
import os
import pathlib
import pickle

import numpy

import digits
import kubetune_trial


def main() -> None:
    options = digits.arguments()
    if os.environ.get("KUBETUNE_PHASE") == "finalists":
        options.seed = kubetune_trial.seed() or 0
    if options.full_data:
        refit(options)
    elif os.environ.get("KUBETUNE_MODEL"):
        score(options, pathlib.Path(os.environ["KUBETUNE_MODEL"]))
    else:
        search(options)


def refit(options: argparse.Namespace) -> None:
    """The winner, from all but the test part; told to kubetune as a version."""
    train, validation, _ = digits.parts(options.small)
    images = numpy.concatenate([train.images, validation.images])
    answers = numpy.concatenate([train.digits, validation.digits])
    network = digits.network(options)
    for _ in range(options.epochs):
        network.partial_fit(images, answers, classes=digits.CLASSES)
    path = pathlib.Path(options.models) / f"{os.environ.get('KUBETUNE_EXPERIMENT', 'digits')}.pickle"
    path.write_bytes(pickle.dumps(network))
    kubetune_trial.model(str(path))


def score(options: argparse.Namespace, model: pathlib.Path) -> None:
    """The refit's model on the test part, once."""
    test = digits.parts(options.small)[2]
    if not len(test.digits):
        raise SystemExit(f"the test part is not here: spec.test mounts it as {digits.TEST}")
    network = pickle.loads(model.read_bytes())
    kubetune_trial.report(0, accuracy=network.score(test.images, test.digits))


def search(options: argparse.Namespace) -> None:
    train, validation, test = digits.parts(options.small, options.fold, options.folds)
    print(f"images: {len(train.digits)} to train on, {len(validation.digits)} to validate, {len(test.digits)} to test")
    network = digits.network(options)
    for epoch in range(1, options.epochs + 1):
        network.partial_fit(train.images, train.digits, classes=digits.CLASSES)
        accuracy = network.score(validation.images, validation.digits)
        print(f"epoch {epoch}: loss {network.loss_:.4f}, accuracy {accuracy:.4f}", flush=True)
        seen = network.score(train.images, train.digits)
        if kubetune_trial.report(epoch, accuracy=accuracy, loss=network.loss_, train_accuracy=seen):
            print("told to stop")
            return
    if options.score_test_set:
        print(f"accuracy on the test part: {network.score(test.images, test.digits):.4f}")


if __name__ == "__main__":
    main()
