"""Gates: which attention maps are good enough to be accumulated (paper, Sec. 3.2, last paragraph)."""

import tensorflow as tf

GATES = ("paper", "topk", "none")


def open_gate(gate: str, scores: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Decides for every pair of image and class whether its attention is accumulated.

    Args:
        gate: "paper": the class is among the image's labels and scores higher than every class that is not. "topk" (the
            authors' code): the class is a label and has one of the K highest scores of an image with K labels. "none":
            the class is a label.
        scores: Logits or probabilities, float32 `[batch, classes]`.
        labels: Multi-hot, float32 `[batch, classes]`.

    Returns:
        bool `[batch, classes]`. A score that is not finite never passes.

    Raises:
        ValueError: An unknown gate.
    """
    present = labels > 0
    passable = present & tf.math.is_finite(scores)
    if gate == "paper":
        highest_absent = tf.reduce_max(tf.where(present, scores.dtype.min, scores), axis=1, keepdims=True)
        return passable & (scores > highest_absent)
    if gate == "topk":
        num_higher = tf.reduce_sum(tf.cast(scores[:, tf.newaxis, :] > scores[:, :, tf.newaxis], tf.float32), axis=2)
        return passable & (num_higher < tf.reduce_sum(labels, axis=1, keepdims=True))
    if gate == "none":
        return passable
    raise ValueError(f"gate={gate!r}: expected one of {', '.join(GATES)}")
