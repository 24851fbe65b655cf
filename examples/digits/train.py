"""A trial that reports each epoch and stops when it is told to. Without a cluster it is an ordinary program."""

import digits
import kubetune_trial


def main() -> None:
    options = digits.arguments()
    train, validation, test = digits.parts(options.small)
    print(f"images: {len(train.digits)} to train on, {len(validation.digits)} to validate, {len(test.digits)} to test")
    network = digits.network(options)
    for epoch in range(1, options.epochs + 1):
        network.partial_fit(train.images, train.digits, classes=digits.CLASSES)
        accuracy = network.score(validation.images, validation.digits)
        print(f"epoch {epoch}: loss {network.loss_:.4f}, accuracy {accuracy:.4f}", flush=True)
        if kubetune_trial.report(epoch, accuracy=accuracy, loss=network.loss_):
            print("told to stop")
            return
    if options.score_test_set:
        print(f"accuracy on the test part: {network.score(test.images, test.digits):.4f}")


if __name__ == "__main__":
    main()
