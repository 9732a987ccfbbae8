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
    shown_by: list[list[int]] = [[] for _ in classes]
    for number, of_image in enumerate(labels):
        for index in of_image:
            shown_by[index].append(number)
    images_of = list(map(frozenset, shown_by))
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
    letters = {name: re.sub(r"\d+", "", name.casefold()) for name in classes}
    for one, other in itertools.combinations(classes, 2):
        if letters[one] != letters[other] and _are_alike(letters[one], letters[other]):
            warnings.append(f"the classes {one} and {other} have nearly the same name: is one of them a misspelt tag?")
    return warnings


def _are_alike(one: str, other: str) -> bool:
    matcher = difflib.SequenceMatcher(None, one, other)
    # Upper bounds first, which cost less: a thousand classes are half a million pairs.
    bounds = (matcher.real_quick_ratio, matcher.quick_ratio, matcher.ratio)
    return all(ratio() > _ALIKE for ratio in bounds)
