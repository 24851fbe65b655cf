"""A trial: one segment of a member's life. It goes on from its parent's checkpoint, and leaves one of its own."""

import argparse
import pathlib
import pickle

import kubetune_trial
import learner as digits


def main() -> None:
    parser = argparse.ArgumentParser(description="Learn handwritten digits a little further.")
    parser.add_argument("--lr", type=float, required=True, help="learning rate")
    parser.add_argument("--alpha", type=float, required=True, help="of the L2 penalty")
    parser.add_argument("--epochs", type=int, default=2, help="in this segment")
    options = parser.parse_args()
    folder = kubetune_trial.load_checkpoint()
    if folder is None:
        member, epoch = digits.beginner(kubetune_trial.seed() or 0), 0
    else:
        member, epoch = pickle.loads(pathlib.Path(folder, "member.pkl").read_bytes()), folder.step
    done = folder is not None and folder.trial == kubetune_trial.trial()  # an earlier attempt was lost after its end
    for _ in range(0 if done else options.epochs):
        digits.train_one_epoch(member, options.lr, options.alpha)
        epoch += 1
    loss = digits.loss(member, digits.parts()[1])
    print(f"epoch {epoch}: loss {loss:.4f}, from trial {kubetune_trial.parent()}", flush=True)
    kubetune_trial.report(epoch, loss=loss)
    if not done:
        with kubetune_trial.save_checkpoint(epoch) as place:
            pathlib.Path(place, "member.pkl").write_bytes(pickle.dumps(member))


if __name__ == "__main__":
    main()
