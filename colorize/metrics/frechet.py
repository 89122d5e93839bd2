"""The Frechet distance between two sets of feature vectors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.floating]


def frechet_distance(predicted_ND: Vectors, true_MD: Vectors) -> float:
    """Squared Frechet distance between Gaussians fitted to two sets of vectors, at least 0.

    `|m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2))`: Dowson and Landau, "The Frechet distance between multivariate normal
    distributions" (1982), used for images by Heusel et al., "GANs Trained by a Two Time-Scale Update Rule" (2017).
    FID is this distance between Inception features. It is biased upward for small samples: compare equal sizes only.

    The trace of the square root is computed as the sum of the singular values of `X1 X2^T` (centered and scaled),
    which is stable for rank-deficient covariances, too.

    Raises:
        ValueError: fewer than two vectors in a set.
    """
    if min(len(predicted_ND), len(true_MD)) < 2:
        raise ValueError(f"a Frechet distance needs at least two images, not {min(len(predicted_ND), len(true_MD))}")
    (mean1, x1), (mean2, x2) = (_centered(np.asarray(x, np.float64)) for x in (predicted_ND, true_MD))
    overlap = _singular_sum(x1, x2)
    distance = ((mean1 - mean2) ** 2).sum() + (x1**2).sum() + (x2**2).sum() - 2 * overlap
    return max(0.0, float(distance))


def _centered(x_ND: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    mean = x_ND.mean(axis=0)
    return mean, (x_ND - mean) / np.sqrt(len(x_ND) - 1)


def _singular_sum(x1_ND: npt.NDArray[np.float64], x2_MD: npt.NDArray[np.float64]) -> float:
    """Sum of the singular values of `x1 x2^T`, via QR if there are more rows than columns."""
    small = [np.asarray(np.linalg.qr(x, mode="r")) if len(x) > x.shape[1] else x for x in (x1_ND, x2_MD)]
    return float(np.linalg.svd(small[0] @ small[1].T, compute_uv=False).sum())
