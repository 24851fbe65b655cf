"""A trial that starts from given weights: learns a new task from few images, and says how well it goes each epoch.

`kubetune_trial.load_checkpoint()` hands out what `spec.initCheckpoint` gives, or the trial's own last checkpoint if its
pod was lost. Without either (on a laptop, say) it begins with random weights.
"""

import argparse
import pathlib

import joblib

import kubetune_trial
from task import CLASSES, network, new_task


def main() -> None:
    parser = argparse.ArgumentParser(description="Learn the new task.")
    parser.add_argument("--lr", type=float, default=0.001, help="learning rate")
    parser.add_argument("--alpha", type=float, default=1e-4, help="L2 penalty")
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    train, validation = new_task()
    folder = kubetune_trial.load_checkpoint()
    model = joblib.load(pathlib.Path(folder, "model.joblib")) if folder else network()
    if not folder or folder.step < 0:  # the given weights, and an optimiser of our own
        model.set_params(learning_rate_init=options.lr, alpha=options.alpha)
        vars(model).pop("_optimizer", None)
        vars(model).pop("_random_state", None)
    for epoch in range(folder.step + 1 if folder else 0, options.epochs):
        model.partial_fit(*train, classes=CLASSES)
        accuracy = model.score(*validation)
        print(f"epoch {epoch}: accuracy {accuracy:.4f}", flush=True)
        if kubetune_trial.report(epoch, accuracy=accuracy):
            return
        with kubetune_trial.save_checkpoint(epoch) as made:
            joblib.dump(model, pathlib.Path(made, "model.joblib"))


if __name__ == "__main__":
    main()
