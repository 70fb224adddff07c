"""The Bayesian likelihood and sampler on a real trial: `python -m tests.validate.oxazepam` (RECONFMRI_DATA).

Flat priors on the eight coefficients of the published model, half-t on both SDs. Prints every coefficient
beside the published one, the distance in Monte Carlo errors, and the ratio of spreads; exits with 1 when a
distance is above four.
"""

import os
import runpy
import sys
from pathlib import Path

import numpy as np

from reconfmri.group.likelihood import seen_log_density, without_compiler
from reconfmri.group.reml import fit_reml

load = runpy.run_path(str(Path(__file__).parents[1] / "reference" / "oxazepam.py"))["load"]


def main() -> int:
    """Run and print; 1 when a coefficient is not that of the authors."""
    import arviz
    import nutpie
    import pymc as pm
    import pytensor.tensor as pt

    without_compiler()
    values, design, published = load(Path(os.environ["RECONFMRI_DATA"]) / "oxazepam_rct")
    start = fit_reml(values, design, "random_intercept")
    scale = start.scale
    seen, n_visits = (~np.isnan(values)).astype(float), values.shape[1]
    within = (start.covariance[0, 0] - start.covariance[0, 1]) ** 0.5 / scale
    between = start.covariance[0, 1] ** 0.5 / scale
    with pm.Model() as model:
        moved = pm.Flat("moved", shape=8, initval=np.zeros(8))
        beta = pm.Deterministic("beta", start.beta / scale + np.linalg.cholesky(start.moments.phi) @ moved)
        sds = [
            pm.HalfStudentT(name, nu=4, sigma=2.5, initval=value)
            for name, value in (("between", between), ("within", within))
        ]
        covariance = sds[1] ** 2 * np.eye(n_visits) + sds[0] ** 2 * np.ones((n_visits, n_visits))
        given = np.nan_to_num(values) / scale, seen, np.zeros(values.shape)
        pm.Potential("likelihood", seen_log_density(pt.dot(pt.as_tensor(design), beta), covariance, *given))
    compiled = nutpie.compile_pymc_model(model, backend="numba")
    trace = nutpie.sample(
        compiled, tune=400, draws=750, chains=2, cores=1, seed=1, progress_bar=False, save_warmup=False
    )
    draws = scale * trace.posterior["beta"].to_numpy()
    largest = 0.0
    for place, name in enumerate(published.index):
        mine, expected = draws[:, :, place], published["Value"].iloc[place]
        error = mine.std() / float(arviz.ess(mine)) ** 0.5
        distance = (mine.mean() - expected) / error
        largest = max(largest, abs(distance))
        spread = mine.std() / published["Std.Error"].iloc[place]
        print(f"{name:45s} {mine.mean():9.5f} {expected:9.5f}  {distance:5.2f} errors, SD / SE {spread:.3f}")
    return int(largest > 4)


if __name__ == "__main__":
    sys.exit(main())
