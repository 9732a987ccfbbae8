"""What in the labels of a data set keeps a classifier from learning its classes."""

import difflib
import itertools
import re
from collections.abc import Sequence

_UBIQUITOUS = 0.95
_ALIKE = 0.85


def label_warnings(
    classes: Sequence[str], labels: Sequence[tuple[int, ...]], *, for_training: bool = True
) -> list[str]:
    """Sentences about classes that no image shows, that nearly every image shows, that always come together, or whose
    names are nearly the same.

    Args:
        classes: Names of the classes.
        labels: Class indices of each image.
        for_training: Whether a classifier learns from the images; else only classes without images matter.
    """
    images_of = [
        frozenset(n for n, of_image in enumerate(labels) if index in of_image) for index in range(len(classes))
    ]
    warnings = []
    if missing := [name for name, images in zip(classes, images_of, strict=True) if not images]:
        warnings.append(f"no image shows {', '.join(missing)}")
    if not for_training:
        return warnings
    together: dict[frozenset[int], list[str]] = {}
    for name, images in zip(classes, images_of, strict=True):
        if len(images) >= _UBIQUITOUS * len(labels):
            warnings.append(
                f"{len(images)} of {len(labels)} images show {name}: without images that do not, the classifier learns"
                " nothing about where it is"
            )
        if images:
            together.setdefault(images, []).append(name)
    for names in together.values():
        if len(names) > 1:
            warnings.append(f"{' and '.join(names)} are on the same images: nothing tells them apart")
    for one, other in itertools.combinations(classes, 2):
        first, second = (re.sub(r"\d+", "", name.casefold()) for name in (one, other))
        if first != second and difflib.SequenceMatcher(None, first, second).ratio() > _ALIKE:
            warnings.append(f"the classes {one} and {other} have nearly the same name: is one of them a misspelt tag?")
    return warnings
