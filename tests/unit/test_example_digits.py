"""examples/digits with the test part kept apart: the same images as before, and none of it where it is not mounted."""

import os
import pathlib
import shutil
import subprocess
import sys

DIGITS = pathlib.Path(__file__).parents[2] / "examples" / "digits"
DIGEST = """
import hashlib, digits
for fold, folds in ((0, 1), (2, 5)):
    for part in digits.parts(small=True, fold=fold, folds=folds):
        print(len(part.digits), hashlib.sha256(part.images.tobytes() + part.digits.tobytes()).hexdigest())
"""


def run(folder: pathlib.Path, *arguments: str, test: pathlib.Path | None = None) -> str:
    environment = {**os.environ, "DIGITS_TEST": str(test or folder / "not mounted"), "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout


def test_taken_apart_it_is_the_same_and_the_test_part_is_where_it_is_mounted_only(tmp_path: pathlib.Path) -> None:
    image, mounted = tmp_path / "image", tmp_path / "test.csv"
    image.mkdir()
    for name in ("digits.py", "hold_out.py"):
        shutil.copy(DIGITS / name, image)
    whole = run(image, "-c", DIGEST).splitlines()
    mounted.write_text(run(image, "hold_out.py", "test"))
    known = run(image, "hold_out.py", "known")
    (image / "known.csv").write_text(known)  # as Dockerfile.honest does
    assert [line.split()[0] for line in whole] == ["1077", "360", "360", "1150", "287", "360"]
    assert run(image, "-c", DIGEST, test=mounted).splitlines() == whole
    unseen = run(image, "-c", DIGEST).splitlines()
    assert unseen[:2] + unseen[3:5] == whole[:2] + whole[3:5]
    assert [unseen[place].split()[0] for place in (2, 5)] == ["0", "0"]
    assert not set(known.splitlines()) & set(mounted.read_text().splitlines())
