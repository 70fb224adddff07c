"""The Bayesian engine's likelihood under flat priors against the published coefficients of a real trial.

Its means here are a design of eight columns over 64 events, not arms over visits, so that the likelihood is
taken and not the whole model. Given the covariance the posterior of the coefficients is normal, with mean and
precision that the likelihood's gradient tells; over the two parameters of the random intercept it is summed
on a grid: no Monte Carlo error. By the sampler: `python -m tests.validate.oxazepam`.
"""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np

oxazepam = runpy.run_path(str(Path(__file__).parent / "oxazepam.py"))


def test_flat_priors_give_the_published_coefficients(real_data):
    from reconfmri.group.likelihood import log_density

    values, design, published = oxazepam["load"](real_data / "oxazepam_rct")
    seen, known = (~np.isnan(values)).astype(float), np.zeros(values.shape)
    values, n_visits = np.nan_to_num(values), values.shape[1]

    def gaussian(between: float, within: float) -> tuple[float, np.ndarray, np.ndarray]:
        """Log of the likelihood integrated over the coefficients, their mean and covariance."""
        covariance = within * np.eye(n_visits) + between
        given = covariance, values, seen, known, np.inf
        at_zero, slope, _, _ = log_density(np.zeros(values.shape), *given)
        score = np.einsum("nvp,nv->p", design, slope)
        # the gradient falls by the information with every unit of a coefficient
        steps = [np.einsum("nvp,nv->p", design, log_density(design[:, :, p], *given)[1]) for p in range(8)]
        spread = np.linalg.inv(score - np.stack(steps))
        mean = spread @ score
        return at_zero + 0.5 * score @ mean + 0.5 * np.linalg.slogdet(spread)[1], mean, spread

    # the REML estimates are 2.955e-5 between and 2.329e-3 within people; flat on both variances
    betweens = 2.955e-5 * np.exp(np.linspace(-2.5, 2.0, 13))
    withins = 2.329e-3 * np.exp(np.linspace(-0.12, 0.12, 7))
    found = [gaussian(between, within) for between in betweens for within in withins]
    heights, means, spreads = (np.array(part) for part in zip(*found, strict=True))
    weights = np.exp(heights - heights.max()) * np.outer(betweens, withins).ravel()
    weights /= weights.sum()
    edges = weights.reshape(13, 7)
    assert max(edges[[0, -1]].sum(), edges[:, [0, -1]].sum()) < 0.01, "the grid holds the posterior"
    mean = weights @ means
    sd = np.sqrt(np.einsum("g,gpp->p", weights, spreads) + weights @ (means - mean) ** 2)
    errors = published["Std.Error"].to_numpy()
    # the estimates move with the covariance by the few lost events only
    np.testing.assert_allclose(mean, published["Value"], atol=0.01 * errors.min())
    # within people: 2,041 degrees of freedom; between them (constant, treatment) 31 widen by some per cent
    within_people = [1, 2, 4, 5, 6, 7]
    np.testing.assert_allclose(sd[within_people], errors[within_people], rtol=0.005)
    assert (sd[[0, 3]] / errors[[0, 3]] > 1.0).all()
    assert (sd[[0, 3]] / errors[[0, 3]] < 1.08).all()
