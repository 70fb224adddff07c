"""What says to others what the derivatives are: dataset_description.json and README.md."""

from pathlib import Path

from reconfmri.jobs import job
from reconfmri.provenance import describe_dataset, readme_of_dataset

with job(snakemake):
    name = f"{snakemake.params.name}: preprocessed runs and measures"
    Path(snakemake.output.description).write_text(describe_dataset(name), encoding="utf-8")
    Path(snakemake.output.readme).write_text(readme_of_dataset(name), encoding="utf-8")
