"""A trial on the old task: learns it, and keeps its weights for whoever starts from them."""

import argparse
import pathlib

import joblib
from sklearn.model_selection import train_test_split

import kubetune_trial
from task import CLASSES, network, old_task


def main() -> None:
    parser = argparse.ArgumentParser(description="Learn the old task.")
    parser.add_argument("--lr", type=float, default=0.001, help="learning rate")
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    images, digits = old_task()
    train, validation, known, hidden = train_test_split(images, digits, test_size=0.2, random_state=0, stratify=digits)
    folder = kubetune_trial.load_checkpoint()
    model = joblib.load(pathlib.Path(folder, "model.joblib")) if folder else network()
    model.set_params(learning_rate_init=options.lr)
    for epoch in range(folder.step + 1 if folder else 0, options.epochs):
        model.partial_fit(train, known, classes=CLASSES)
        accuracy = model.score(validation, hidden)
        print(f"epoch {epoch}: accuracy {accuracy:.4f}", flush=True)
        if kubetune_trial.report(epoch, accuracy=accuracy):
            return
        with kubetune_trial.save_checkpoint(epoch) as made:
            joblib.dump(model, pathlib.Path(made, "model.joblib"))


if __name__ == "__main__":
    main()
