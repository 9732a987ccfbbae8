"""The order of a training run: which images make up which batch, as a pure function of (canvases, seed)."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class BatchOrder:
    """The batches of a run.

    Sample `n` is the `n % num_images`-th image of epoch `n // num_images`; each epoch has its own permutation of the
    images. A sample waits until a whole batch of samples has the same canvas. Batches therefore continue across the
    ends of epochs; if all canvases are equal, samples keep their order.

    Attributes:
        samples: int64 `[num_steps, batch_size]`, the numbers of the samples.
        positions: int64 `[num_steps, batch_size]`, the positions of their images.
        num_images: Images per epoch.
    """

    samples: np.ndarray
    positions: np.ndarray
    num_images: int

    @classmethod
    def make(cls, canvases: np.ndarray, *, batch_size: int, seed: int, num_steps: int) -> "BatchOrder":
        """The order of a run; a longer run begins with the same batches.

        Args:
            canvases: int32 `[num_images, 2]`, height and width of each image's canvas.
            batch_size: Images per batch.
            seed: Seed of the order.
            num_steps: Number of batches.
        """
        num_images = len(canvases)
        shapes, shape_of_image = np.unique(canvases, axis=0, return_inverse=True)
        waiting = [np.empty((0, 2), np.int64) for _ in shapes]
        ordered: list[np.ndarray] = []
        num_ordered = epoch = 0
        while num_ordered < num_steps:
            positions = permutation(num_images, seed, epoch)
            samples = np.arange(num_images) + epoch * num_images
            visits = np.stack([samples, positions], axis=1)
            shape_of_visit = shape_of_image[positions]
            ready = []
            for shape in range(len(shapes)):
                queue = np.concatenate([waiting[shape], visits[shape_of_visit == shape]])
                num_batches = len(queue) // batch_size
                ready.append(queue[: num_batches * batch_size].reshape(num_batches, batch_size, 2))
                waiting[shape] = queue[num_batches * batch_size :]
            # A batch is due when its last sample comes.
            batches = np.concatenate(ready)
            ordered.append(batches[np.argsort(batches[:, -1, 0])])
            num_ordered += len(batches)
            epoch += 1
        batches = np.concatenate(ordered)[:num_steps] if ordered else np.empty((0, batch_size, 2), np.int64)
        return cls(batches[..., 0], batches[..., 1], num_images)


def permutation(num_images: int, seed: int, epoch: int) -> np.ndarray:
    """The order in which an epoch visits the images: int64 `[num_images]`.

    Sorts raw random bits: unlike the results of its shuffling, numpy keeps these the same between versions.
    """
    return np.argsort(np.random.Philox(key=[seed, epoch]).random_raw(num_images), kind="stable")
