"""What a host's prediction of one image says, in words that all hosts share."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """A prediction, beside the truth where that is known.

    Attributes:
        predicted: the classes found, the first is the surest or largest.
        true: the classes that are there, None where unknown.
        quality: in [0, 1]: whether the class is right; F1 of the boxes (same class,
            IoU of at least 0.5); mean IoU over the classes of the image. None without
            truth.
        entropy: doubt of the prediction in nats: about the class; mean over boxes,
            about being there or not; mean over pixels, about the class. None where
            nothing is predicted.
    """

    predicted: tuple[int, ...]
    true: tuple[int, ...] | None = None
    quality: float | None = None
    entropy: float | None = None
