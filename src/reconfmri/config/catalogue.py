"""Every outcome that a study can produce, once: its name and all that is said of it elsewhere.

Outcome names are `<what>.<contrast or condition>`. They are put together here; other modules look an outcome
up and never take its name apart. The label is made from the name alone, since tables of measures from
elsewhere (`reconfmri group`) bring names without a study file of scans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reconfmri.config.connectivity import SD, SPREAD
from reconfmri.config.physiology import SIGNALS
from reconfmri.config.quality import quality_units
from reconfmri.config.scales import library, scale_label
from reconfmri.config.section import TakenNameError
from reconfmri.config.skin_conductance import SKIN_SCORES

if TYPE_CHECKING:
    from reconfmri.config.study import Study

DOMAINS = ("activation", "connectivity", "skin_conductance", "physiology", "clinical", "quality")
SKIN = {
    "scr": "skin conductance",
    "scl": "skin conductance level",
    "scr_area": "skin conductance area",
    "scr_count": "skin conductance responses",
    "scr_canonical": "skin conductance, canonical response",
    "scr_fluctuations": "skin conductance fluctuations",
}
PHYSIOLOGY = {
    "hr": "heart rate",
    "hr_change": "heart rate change",
    "rmssd": "heart rate variability (RMSSD)",
    "resp": "respiration rate",
    "emg_change": "EMG change",
}
PROPER = {"vmpfc": "vmPFC", "dacc": "dACC", "racc": "rACC", "tsnr": "tSNR"} | SKIN | PHYSIOLOGY
# Outcomes of connectivity beyond the correlation, by how they begin after the dot.
ESTIMATED = {"gppi_": "gPPI ", "partial_": "partial PPI ", "beta_": "beta series ", "sd_": "SD in "}
QUALITY = {
    "fd.mean": "Mean framewise displacement",
    "fd.outlier_share": "Share of motion outliers",
    "dvars.mean": "Mean standardised DVARS",
    "tsnr.median": "Median temporal SNR",
    "coverage.lowest": "Lowest coverage of a region",
    "volumes.count": "Volumes",
    "volumes.usable_time": "Usable time: steady volumes below the FD threshold",
    "volumes.damaged_share": "Damaged volumes",
    "flat.share": "Share of brain voxels without variance",
    "start.excess": "First volume relative to the steady state",
    "start.volumes": "Non-steady-state volumes",
    "registration.cost": "Boundary cost of EPI to T1w",
    "registration.mirrored_cost": "Boundary cost of EPI to the T1w's mirror image",
    "brain.volume": "Volume of the brain mask",
    "ghost.phase": "Ghost to signal, phase encoding",
    "ghost.i": "Ghost to signal, first image axis",
    "ghost.j": "Ghost to signal, second image axis",
}


@dataclass(frozen=True)
class Outcome:
    """One outcome.

    `producer` is the `desc` of the tables that hold it (`scale` for those of a clinical scale), `what` the
    region, pair, scale or quantity before the dot, and `condition` the contrast or condition after it.
    `task` is the one whose scans make it, None for scales and quality. An exclusion of any of `regions`
    takes it out.
    `always`: of every scan; the ghost of an image is measured only where the image has a background.
    """

    what: str
    condition: str
    domain: str
    unit: str
    producer: str
    task: str | None = None
    regions: frozenset[str] = frozenset()
    always: bool = True

    @property
    def name(self) -> str:
        """The outcome's name in every table."""
        return f"{self.what}.{self.condition}"


def of_activation(study: Study) -> Iterator[Outcome]:
    """Yield the contrasts of every region."""
    settings = study.first_level
    for region in study.rois.names if settings else ():
        for contrast in settings.every_contrast if settings else ():
            yield Outcome(
                region,
                contrast,
                "activation",
                settings.unit_of(contrast) if settings else "",
                "activation",
                settings.task if settings else None,
                _parts(study, region) | ({contrast} if settings and settings.rated(contrast) else set()),
            )


def of_connectivity(study: Study) -> Iterator[Outcome]:
    """Yield every estimate of every pair of regions, then the SD of each region in each condition."""
    if settings := study.connectivity:
        for item in settings.coupled:
            one, other = item.pair
            regions = _parts(study, one) | _parts(study, other) | {f"{one}-{other}"}
            yield Outcome(
                f"{one}-{other}",
                item.spelled,
                "connectivity",
                item.unit,
                "connectivity",
                settings.task,
                regions,
            )
        for region in settings.regions:
            for condition in settings.windows:
                yield Outcome(
                    region,
                    f"{SD}{condition}",
                    "connectivity",
                    SPREAD,
                    "connectivity",
                    settings.task,
                    _parts(study, region),
                )


def of_skin_conductance(study: Study) -> Iterator[Outcome]:
    """Yield the conditions that skin conductance is scored in."""
    if settings := study.skin_conductance:
        for score in settings.scores:
            what, unit = SKIN_SCORES[score]
            for condition in settings.conditions:
                yield Outcome(
                    what,
                    condition,
                    "skin_conductance",
                    unit,
                    "scr",
                    settings.task,
                    frozenset({"skin_conductance"}),
                )


def of_physiology(study: Study) -> Iterator[Outcome]:
    """Yield the conditions that heart rate, respiration and EMG are scored in."""
    if settings := study.physiology:
        for signal in settings.signals:
            for head, unit in SIGNALS[signal][3].items():
                for condition in settings.conditions:
                    regions = frozenset({signal})
                    yield Outcome(head, condition, "physiology", unit, "physiology", settings.task, regions)


def of_scales(study: Study) -> Iterator[Outcome]:
    """Yield the scores of the clinical scales."""
    for name, scale in study.scales.items():
        for score, unit in scale.scores.items():
            yield Outcome(name, score, "clinical", unit, "scale")


def of_quality(study: Study) -> Iterator[Outcome]:
    """Yield the numbers of a scan's quality."""
    for name, unit in quality_units(study.rois.names).items():
        what, condition = name.split(".", 1)
        regions = _parts(study, condition) if what in ("coverage", "tsnr") else frozenset()
        yield Outcome(what, condition, "quality", unit, "quality", None, regions, always=what != "ghost")


# Who fills the catalogue, in the order of tables and pages.
PRODUCERS: list[Callable[[Study], Iterator[Outcome]]] = [
    of_activation,
    of_connectivity,
    of_skin_conductance,
    of_physiology,
    of_scales,
    of_quality,
]


def catalogue(study: Study) -> dict[str, Outcome]:
    """Return every outcome of a study by its name.

    Raises
    ------
    TakenNameError
        Two have one name.
    """
    found: dict[str, Outcome] = {}
    for outcome in (item for producer in PRODUCERS for item in producer(study)):
        if found.setdefault(outcome.name, outcome) is not outcome:
            raise TakenNameError(
                f"{outcome.producer} and {found[outcome.name].producer} both make {outcome.name!r}",
                "rename the contrast or the condition",
            )
    return found


def _parts(study: Study, region: str) -> frozenset[str]:
    return frozenset({region, *study.rois.combined.get(region, ())})


def outcome_label(name: str) -> str:
    """Return `amygdala.trauma_first-neutral_first` as `Amygdala: trauma first − neutral first`."""
    if name in QUALITY:
        return QUALITY[name]
    what, _, condition = name.partition(".")
    if condition == "total" and what not in PROPER:
        return f"{scale_label(what)} total"
    if what in library():
        return f"{scale_label(what)}: {condition_label(condition)}"
    spoken = " – ".join(PROPER.get(part, part.replace("_", " ")) for part in what.split("-"))
    if what in SKIN | PHYSIOLOGY or spoken.split(" ")[0] not in PROPER.values():
        spoken = spoken[:1].upper() + spoken[1:]
    return f"{spoken}: {condition_label(condition)}" if condition else spoken


def condition_label(name: str) -> str:
    """Return `trauma_first-neutral_first` as `trauma first − neutral first`."""
    for prefix, spoken in ESTIMATED.items():
        if name.startswith(prefix):
            return spoken + condition_label(name.removeprefix(prefix))
    return " − ".join(part.replace("_", " ") for part in name.split("-"))
