"""A trial that reports each epoch and stops when it is told to. Without a cluster it is an ordinary program."""

import digits

try:
    import kubetune_trial
except ModuleNotFoundError:  # on a laptop: nobody to report to, nobody to stop us
    kubetune_trial = None


def main() -> None:
    options = digits.arguments()
    train, validation, test = digits.parts()
    print(f"images: {len(train.digits)} to train on, {len(validation.digits)} to validate, {len(test.digits)} to test")
    network = digits.network(options)
    for epoch in range(1, options.epochs + 1):
        network.partial_fit(train.images, train.digits, classes=digits.CLASSES)
        accuracy = network.score(validation.images, validation.digits)
        print(f"epoch {epoch}: loss {network.loss_:.4f}, accuracy {accuracy:.4f}", flush=True)
        if kubetune_trial:
            kubetune_trial.report(epoch, accuracy=accuracy)
            if kubetune_trial.should_stop():
                print("told to stop: no better than half of the others at this point")
                return
    if options.score_test_set:
        print(f"accuracy on the test part: {network.score(test.images, test.digits):.4f}")


if __name__ == "__main__":
    main()
