"""The study file: every setting of a trial, checked once when it is read, and frozen.

One file per section; `study` has what sections must agree on, `reading` reads YAML and words what is wrong.
Field descriptions carry unit and meaning; `config/README.md` and the JSON schema are made from them.
"""

from reconfmri.config.arms import TWO_ARMS, Arms, Comparison
from reconfmri.config.associations import Association, Prediction
from reconfmri.config.catalogue import (
    DOMAINS,
    PROPER,
    QUALITY,
    Outcome,
    condition_label,
    outcome_label,
)
from reconfmri.config.connectivity import Connectivity, Coupled
from reconfmri.config.filters import FILTERED, Filters
from reconfmri.config.first_level import Fir, FirstLevel, Modulator, ScriptContrast, contrast_label
from reconfmri.config.group import (
    DEFAULT_SCALES,
    MIN_POOLED,
    Covariate,
    Estimand,
    Group,
    Primary,
    Priors,
    Sampling,
)
from reconfmri.config.physiology import SIGNALS, Physiology
from reconfmri.config.preprocessing import Container, Fmriprep, Preprocessing
from reconfmri.config.quality import QUALITY_UNITS, Quality, quality_units
from reconfmri.config.reading import CONFIG, load_section, load_study, load_trial, parse_config
from reconfmri.config.responders import Responder
from reconfmri.config.rois import Atlas, Region, Rois, Sphere
from reconfmri.config.scales import Scale
from reconfmri.config.section import Scrubbing, bare
from reconfmri.config.sessions import Session
from reconfmri.config.skin_conductance import LONG_SCRIPT, SKIN_SCORES, Artefacts, Channel, SkinConductance
from reconfmri.config.study import Study, Trial, check_group
from reconfmri.config.tasks import WHOLE_RUN, Task, condition_names
from reconfmri.config.voxels import Voxels

__all__ = [
    "CONFIG",
    "DEFAULT_SCALES",
    "DOMAINS",
    "FILTERED",
    "LONG_SCRIPT",
    "MIN_POOLED",
    "PROPER",
    "QUALITY",
    "QUALITY_UNITS",
    "SIGNALS",
    "SKIN_SCORES",
    "TWO_ARMS",
    "WHOLE_RUN",
    "Arms",
    "Artefacts",
    "Association",
    "Atlas",
    "Channel",
    "Comparison",
    "Connectivity",
    "Container",
    "Coupled",
    "Covariate",
    "Estimand",
    "Filters",
    "Fir",
    "FirstLevel",
    "Fmriprep",
    "Group",
    "Modulator",
    "Outcome",
    "Physiology",
    "Prediction",
    "Preprocessing",
    "Primary",
    "Priors",
    "Quality",
    "Region",
    "Responder",
    "Rois",
    "Sampling",
    "Scale",
    "ScriptContrast",
    "Scrubbing",
    "Session",
    "SkinConductance",
    "Sphere",
    "Study",
    "Task",
    "Trial",
    "Voxels",
    "bare",
    "check_group",
    "condition_label",
    "condition_names",
    "contrast_label",
    "load_section",
    "load_study",
    "load_trial",
    "outcome_label",
    "parse_config",
    "quality_units",
]
