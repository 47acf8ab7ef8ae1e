"""Images and their labels, which several examples learn from.

`load()` gives the digits beside this file (data/README.md): 1,500 to train on and 297 to test on, of 8x8 pixels.
`load(path)` gives a data set in the IDX format of MNIST, Fashion-MNIST and their like: 60,000 and 10,000 of 28x28. The
folder has the four files that are published under these names, compressed or not:

    train-images-idx3-ubyte.gz  train-labels-idx1-ubyte.gz  t10k-images-idx3-ubyte.gz  t10k-labels-idx1-ubyte.gz

Both give `(images, labels), (test images, test labels)`: float32 of shape (n, 1, height, width) from 0 to 1, and int64.
`draw(path, rows)` writes a picture of rows of images, where Matplotlib is installed.
"""

import gzip
from pathlib import Path

import numpy as np

DIGITS = Path(__file__).parent / "data" / "digits.csv.gz"


def load(path=None):
    return _digits() if path is None else (_pair(Path(path), "train"), _pair(Path(path), "t10k"))


def load_idx(path):
    """The array of an IDX file of bytes: 0, 0, 8 for bytes, the number of axes, their extents as big-endian int32."""
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        content = file.read()
    if content[:3] != b"\0\0\x08":
        raise ValueError(f"{path} is no IDX file of bytes")
    start = 4 + 4 * content[3]
    return np.frombuffer(content, np.uint8, offset=start).reshape(np.frombuffer(content[4:start], ">i4"))


def draw(path, rows):
    """A picture of rows of images (rows, columns, pixels), which are square."""
    try:
        import matplotlib
    except ImportError:
        print("no picture: matplotlib is not installed (pip install 'adjit[plot]')")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    count, columns, pixels = np.shape(rows)
    side = int(pixels**0.5)
    framed = np.pad(np.reshape(rows, (count, columns, side, side)), ((0, 0), (0, 0), (1, 1), (1, 1)))
    whole = framed.swapaxes(1, 2).reshape(count * (side + 2), columns * (side + 2))
    scale = max(1, 32 // side)
    plt.imsave(path, whole.repeat(scale, 0).repeat(scale, 1), cmap="gray_r", vmin=0, vmax=1)
    print(f"picture: {path}")


def _pair(folder, part):
    images, labels = (load_idx(_found(folder, f"{part}-{kind}")) for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    return images[:, None] / np.float32(255), labels.astype(np.int64)


def _found(folder, name):
    compressed = folder / f"{name}.gz"
    return compressed if compressed.exists() else folder / name


def _digits():
    with gzip.open(DIGITS, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    table = table[np.random.default_rng(0).permutation(len(table))]
    images, labels = table[:, :64].reshape(-1, 1, 8, 8) / np.float32(16), table[:, 64].astype(np.int64)
    return (images[:1500], labels[:1500]), (images[1500:], labels[1500:])
