"""A trial that reports each epoch, stops when it is told to, and keeps a checkpoint at its end: started again with more
epochs, it goes on where it was. Without a cluster, or without checkpoints, it begins anew."""

import pathlib
import pickle

import digits
import kubetune_trial as kt


def main() -> None:
    options = digits.arguments()
    train, validation, _ = digits.parts(options.small)
    network, done = digits.network(options), 0
    kept = kt.load_checkpoint()
    if kept:
        network, done = pickle.loads(pathlib.Path(kept, "network.pickle").read_bytes()), kept.step
        print(f"goes on after epoch {done}")
    for epoch in range(done + 1, options.epochs + 1):
        network.partial_fit(train.images, train.digits, classes=digits.CLASSES)
        accuracy = network.score(validation.images, validation.digits)
        print(f"epoch {epoch}: loss {network.loss_:.4f}, accuracy {accuracy:.4f}", flush=True)
        if kt.report(epoch, accuracy=accuracy, loss=network.loss_):
            print("told to stop")
            return
    with kt.save_checkpoint(options.epochs) as folder:
        pathlib.Path(folder, "network.pickle").write_bytes(pickle.dumps(network))


if __name__ == "__main__":
    main()
