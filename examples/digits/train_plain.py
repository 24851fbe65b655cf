"""The same network as a program that knows nothing of kubetune: it prints lines, as programs do."""

import digits


def main() -> None:
    options = digits.arguments()
    train, validation, test = digits.parts(options.small, options.fold, options.folds)
    network = digits.network(options)
    for epoch in range(1, options.epochs + 1):
        network.partial_fit(train.images, train.digits, classes=digits.CLASSES)
        accuracy = network.score(validation.images, validation.digits)
        print(f"epoch={epoch} loss={network.loss_:.4f} accuracy={accuracy:.4f}", flush=True)
    if options.score_test_set:
        print(f"test_accuracy={network.score(test.images, test.digits):.4f}")


if __name__ == "__main__":
    main()
