"""Takes the digits apart, so that the test part can be kept where no trial sees it. Prints one of the two as CSV: the
64 pixels of each image (0 to 16) and the digit.

    python hold_out.py known     all but the test part: goes into the trials' image (Dockerfile.honest)
    python hold_out.py test      the test part: goes into a ConfigMap that the run of spec.test alone mounts
"""

import argparse
import sys

import numpy

import digits


def main() -> None:
    parser = argparse.ArgumentParser(description="Take the digits apart.")
    parser.add_argument("part", choices=["known", "test"])
    known, test = digits.halves()
    part = known if parser.parse_args().part == "known" else test
    numpy.savetxt(sys.stdout, numpy.column_stack([part.images * 16, part.digits]), fmt="%d", delimiter=",")


if __name__ == "__main__":
    main()
