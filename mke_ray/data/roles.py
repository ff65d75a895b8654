"""Labels and splits of samples, as tables and the names of folders give them."""

import posixpath
from collections.abc import Sequence

from mke_ray.errors import ConfigError
from mke_ray.schema import IGNORE, LabelKind, LabelSpace, Split


def label_space_of(
    classes: Sequence[str],
    label_kind: str,
    *,
    kinds: Sequence[str] = (LabelKind.SINGLE, LabelKind.MULTI),
) -> LabelSpace:
    """Return the label space of a source of media.

    Args:
        classes: Class names in the order of the logits.
        label_kind: How many of them one sample may have.
        kinds: The kinds that the source can have.

    Raises:
        ConfigError: The kind is another one, or the classes are not distinct.
    """
    if label_kind not in kinds:
        choice = " or ".join(repr(str(kind)) for kind in kinds)
        raise ConfigError(f"source.label_kind={label_kind!r}; choose {choice}")
    ignore = IGNORE if label_kind == LabelKind.DENSE else None
    return LabelSpace(tuple(classes), LabelKind(label_kind), ignore)


def parse_labels(text: str, label_space: LabelSpace, *, where: str) -> tuple[int, ...] | None:
    """Return the class indices that a label names; None for a blank one.

    Args:
        text: Name of a class, or names joined by ``|`` where one sample may have many.
        label_space: The classes.
        where: Table and row, for the error.

    Raises:
        ConfigError: A name is not a class.
    """
    if not text:
        return None
    names = text.split("|") if label_space.kind is LabelKind.MULTI else [text]
    try:
        return tuple(sorted({label_space.index(name.strip()) for name in names}))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}; correct it or add it to source.classes") from None


def parse_split(text: str, labels: tuple[int, ...] | None, *, where: str) -> str:
    """Return the split of a row of a table; a blank one follows from whether there is a label.

    Args:
        text: What the table says.
        labels: Its labels, None where unknown.
        where: Table and row, for the error.

    Raises:
        ConfigError: There is no such split, or it needs a label.
    """
    split = text or (Split.UNLABELED if labels is None else Split.LABELLED).value
    if split not in list(Split):
        raise ConfigError(f"{where}: split {split!r} is not one of {[one.value for one in Split]}")
    if labels is None and split != Split.UNLABELED:
        raise ConfigError(
            f"{where}: a row of split {split!r} needs a label; give it one or move it to "
            "'unlabeled'"
        )
    return split


def labels_of_path(path: str, split: Split, label_space: LabelSpace) -> tuple[int, ...] | None:
    """Return the labels of a sample whose path is ``split/class/...``; None for an unlabeled one.

    Raises:
        ConfigError: There is no folder of a class, or it names none.
    """
    if split is Split.UNLABELED:
        return None
    folders = path.split("/")[1:-1]
    if not folders:
        raise ConfigError(
            f"{path}: files of {split.value}/ lie in a folder named after their class"
        )
    return parse_labels(folders[0], label_space, where=posixpath.dirname(path))
