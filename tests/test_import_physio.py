"""Recordings of the laboratory become BIDS: units checked, pulses matched, the mismatch in s."""

import json
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from reconfmri.body.recordings import read_recording
from reconfmri.body.skin_conductance import prepare, score_scripts
from reconfmri.body.sources import read_source
from reconfmri.channels import describe_recording
from reconfmri.cli import main
from reconfmri.config import SkinConductance, Task

RATE, TR, N_VOLUMES, FIRST = 200.0, 2.0, 60, 7.35  # the scanner starts 7.35 s after the recording
ONSETS = (10.0, 45.0, 80.0)


@pytest.fixture
def dataset(tmp_path):
    func = tmp_path / "bids" / "sub-01" / "func"
    func.mkdir(parents=True)
    (tmp_path / "bids" / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    image = nib.Nifti1Image(np.zeros((2, 2, 2, N_VOLUMES), np.float32), np.eye(4))
    image.header.set_zooms((1, 1, 1, TR))
    nib.save(image, func / "sub-01_task-memory_bold.nii.gz")
    (func / "sub-01_task-memory_bold.json").write_text(json.dumps({"RepetitionTime": TR}))
    return tmp_path / "bids"


def with_events(dataset, shift=0.0):
    lines = ["onset\tduration\ttrial_type", *(f"{onset + shift}\t20\ttrauma" for onset in ONSETS)]
    (dataset / "sub-01/func/sub-01_task-memory_events.tsv").write_text("\n".join(lines) + "\n")


def recorded(jitter=0.0):
    """Skin conductance, volume pulses and event pulses, 150 s at 200 Hz."""
    clock = np.arange(int(150 * RATE)) / RATE
    skin = (
        6
        + 0.002 * np.sin(clock)
        + sum(1.5 * np.interp(clock - FIRST - onset, [1, 2.5, 12], [0, 1, 0]) for onset in ONSETS)
    )
    pulses = np.zeros((2, len(clock)))
    for volume in range(N_VOLUMES):
        at = round((FIRST + volume * TR) * RATE)
        pulses[0, at : at + 4] = 5
    for onset in ONSETS:
        at = round((FIRST + onset + jitter) * RATE)
        pulses[1, at : at + 20] = 5
    return clock, skin, *pulses


def as_text(tmp_path, table, header=True):
    path = tmp_path / "rec.txt"
    pd.DataFrame(table).to_csv(path, sep="\t", index=False, header=header, float_format="%.5f")
    return path


def run(*arguments):
    return main(["import-physio", *map(str, arguments), "--participant-label", "01", "--task-id", "memory"])


def test_a_text_is_imported_and_scored(dataset, tmp_path, capsys):
    with_events(dataset)
    _, skin, volumes, events = recorded()
    path = as_text(tmp_path, {"GSR": skin, "TTL": volumes, "Stim": events})
    done = run(
        path, dataset, "--frequency", RATE, "--channel", "skin_conductance=GSR:µS", "--volumes", "TTL",
        "--events", "Stim=trauma",
    )  # fmt: skip
    assert done == 0
    said = capsys.readouterr().out
    assert "60 volume pulses match 60 volumes, at most 0.000 s beside them" in said
    assert "event pulses lie at most 0.000 s beside the events" in said
    table = dataset / "sub-01/func/sub-01_task-memory_physio.tsv.gz"
    sidecar = json.loads((table.parent / "sub-01_task-memory_physio.json").read_text())
    assert sidecar["StartTime"] == pytest.approx(-FIRST, abs=1 / RATE)
    ready = prepare(table, sidecar, SkinConductance(task="memory", conditions=["trauma"]))
    table = pd.DataFrame(
        [(onset, 20.0, "trauma") for onset in ONSETS], columns=["onset", "duration", "trial_type"]
    )
    asked = SkinConductance(task="memory", conditions=["trauma"])
    rows = score_scripts(ready, table, task=Task(conditions={"trauma": "trauma"}), settings=asked)
    assert rows["value"].to_numpy() == pytest.approx(np.log1p(1.5), abs=0.03)


def test_without_a_header_or_volumes_the_events_place_the_recording(dataset, tmp_path, capsys):
    with_events(dataset)
    _, skin, _, events = recorded()
    path = as_text(tmp_path, {"a": skin, "b": events}, header=False)
    arguments = (
        "--frequency",
        RATE,
        "--channel",
        "skin_conductance=column_1:uS",
        "--events",
        "column_2=trauma",
    )
    assert run(path, dataset, *arguments) == 0
    sidecar = json.loads((dataset / "sub-01/func/sub-01_task-memory_physio.json").read_text())
    assert sidecar["StartTime"] == pytest.approx(-FIRST, abs=1 / RATE)
    assert run(path, dataset, *arguments) == 1
    assert "exists; nothing was overwritten" in capsys.readouterr().err


def test_events_are_written_from_pulses_where_the_run_has_none(dataset, tmp_path):
    _, skin, volumes, events = recorded()
    path = as_text(tmp_path, {"GSR": skin, "TTL": volumes, "Stim": events})
    done = run(
        path, dataset, "--frequency", RATE, "--channel", "skin_conductance=GSR:µS", "--volumes", "TTL",
        "--events", "Stim=trauma",
    )  # fmt: skip
    assert done == 0
    written = pd.read_csv(dataset / "sub-01/func/sub-01_task-memory_events.tsv", sep="\t")
    assert written["onset"].to_numpy() == pytest.approx(ONSETS, abs=1 / RATE)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--channel", "skin_conductance=GSR", "--volumes", "TTL"], "unit of channel 'GSR' is not given"),
        (["--channel", "skin_conductance=GSR:V", "--volumes", "TTL"], "is V, expected one of"),
        (["--channel", "skin_conductance=EDA:µS", "--volumes", "TTL"], "no channel 'EDA'"),
        (["--channel", "skin_conductance=GSR:µS", "--volumes", "Stim"], "no train of 60 pulses"),
        (["--channel", "skin_conductance=GSR:µS"], "nothing tells when the recording began"),
        (["--channel", "GSR", "--start", "0"], "is not COLUMN=CHANNEL"),
        (
            ["--channel", "skin_conductance=GSR:µS", "--volumes", "TTL", "--events", "Stim=trauma"],
            "event pulses lie up to 0.400 s beside the events",
        ),
        (
            ["--channel", "skin_conductance=GSR:µS", "--volumes", "TTL", "--events", "TTL=trauma"],
            "60 pulses of 'TTL', 3 events of 'trauma'",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(dataset, tmp_path, capsys, arguments, says):
    with_events(dataset)
    _, skin, volumes, events = recorded(jitter=0.4)
    path = as_text(tmp_path, {"GSR": skin, "TTL": volumes, "Stim": events})
    assert run(path, dataset, "--frequency", RATE, *arguments) == 1
    line = capsys.readouterr().err.strip()
    assert says in line
    assert "\n" not in line
    assert not list(dataset.rglob("*_physio*"))


def test_volts_are_imported_with_the_gain_of_the_amplifier(dataset, tmp_path):
    _, skin, volumes, _ = recorded()
    path = as_text(tmp_path, {"GSR": skin / 5, "TTL": volumes})
    done = run(
        path, dataset, "--frequency", RATE, "--channel", "skin_conductance=GSR:µS:5", "--volumes", "TTL"
    )
    assert done == 0
    table = dataset / "sub-01/func/sub-01_task-memory_physio.tsv.gz"
    sidecar = json.loads((table.parent / "sub-01_task-memory_physio.json").read_text())
    found = read_recording(table, describe_recording(sidecar, "skin_conductance", table.name))
    np.testing.assert_allclose(found.samples, skin, atol=1e-4)


@pytest.mark.parametrize("kind", ["INT_16", "IEEE_FLOAT_32"])
def test_brainvision_with_markers(dataset, tmp_path, kind):
    with_events(dataset)
    _, skin, _, _ = recorded()
    values = skin / 0.001 if kind == "INT_16" else skin
    packed = np.stack([values, np.zeros(len(skin))], axis=1).astype("<i2" if kind == "INT_16" else "<f4")
    (tmp_path / "r.eeg").write_bytes(packed.tobytes())
    resolution = 0.001 if kind == "INT_16" else 1
    (tmp_path / "r.vhdr").write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common "
        "Infos]\nDataFile=r.eeg\nMarkerFile=r.vmrk\n"
        "DataFormat=BINARY\nDataOrientation=MULTIPLEXED\nNumberOfChannels=2\nSamplingInterval=5000\n"
        f"[Binary Infos]\nBinaryFormat={kind}\n[Channel "
        f"Infos]\nCh1=GSR,,{resolution},µS\nCh2=x,,1,µV\n"
        "[Comment]\n= %\n",
        encoding="utf-8",
    )
    marks = [f"Mk{n + 1}=Response,R128,{round((FIRST + n * TR) * RATE) + 1},1,0" for n in range(N_VOLUMES)]
    title = "Brain Vision Data Exchange Marker File, Version 1.0\n[Marker Infos]\n"
    (tmp_path / "r.vmrk").write_text(title + "\n".join(marks) + "\n", encoding="utf-8")
    assert run(tmp_path / "r.vhdr", dataset, "--channel", "skin_conductance=GSR", "--volumes", "R128") == 0
    sidecar = json.loads((dataset / "sub-01/func/sub-01_task-memory_physio.json").read_text())
    assert sidecar["StartTime"] == pytest.approx(-FIRST, abs=1 / RATE)
    assert sidecar["skin_conductance"]["Units"] == "µS"


def test_acqknowledge_channels_of_several_rates(dataset, tmp_path, monkeypatch):
    """With bioread's own channels: one recording per rate, the units those of the file."""
    import bioread

    _, skin, volumes, _ = recorded()

    def channel(name, units, samples, rate):
        return SimpleNamespace(name=name, units=units, data=samples, samples_per_second=rate)

    data = SimpleNamespace(
        channels=[
            channel("GSR100C", "microsiemens", skin, RATE),
            channel("Trigger", "Volts", volumes, RATE),
            channel("ECG100C", "mV", np.repeat(skin, 5), 5 * RATE),
        ],
        event_markers=[],
        samples_per_second=5 * RATE,
    )
    monkeypatch.setattr(bioread, "read_file", lambda _: data)
    done = run(
        tmp_path / "r.acq", dataset, "--channel", "skin_conductance=GSR100C", "--channel", "cardiac=ECG100C",
        "--volumes", "Trigger",
    )  # fmt: skip
    assert done == 0
    names = sorted(path.name for path in dataset.rglob("*_physio.json"))
    assert names == [f"sub-01_task-memory_recording-{rate}Hz_physio.json" for rate in (1000, 200)]


def test_a_damaged_acqknowledge_file_is_named(dataset, tmp_path, capsys):
    (tmp_path / "r.acq").write_bytes(b"no such file" * 50)
    assert run(tmp_path / "r.acq", dataset, "--channel", "skin_conductance=GSR", "--start", "0") == 1
    assert "no AcqKnowledge file that can be read" in capsys.readouterr().err


def test_the_real_recordings_are_imported_and_scored(dataset, tmp_path, real_data):
    """Fourteen people, twelve films each: three columns of pulses, 100 Hz, no scan beside them."""
    for place, path in enumerate(sorted((real_data / "oxazepam_rct" / "FMOV").glob("*.txt.gz"))):
        done = main(
            ["import-physio", str(path), str(dataset), "--participant-label", f"{place + 10}", "--task-id",
             "films",
             "--frequency", "100", "--channel", "skin_conductance=column_1:µS", "--start", "0",
             *(word for n in (6, 7, 8) for word in ("--events", f"column_{n}=film{n}"))]
        )  # fmt: skip
        assert done == 0
        func = dataset / f"sub-{place + 10}" / "func"
        stem = f"sub-{place + 10}_task-films"
        events = pd.read_csv(func / f"{stem}_events.tsv", sep="\t")
        assert events["trial_type"].value_counts().to_dict() == {"film6": 4, "film7": 4, "film8": 4}
        sidecar = json.loads((func / f"{stem}_physio.json").read_text())
        asked = SkinConductance(task="films", conditions=["film"], scores=["peak", "count"])
        ready = prepare(func / f"{stem}_physio.tsv.gz", sidecar, asked)
        task = Task(conditions={f"film{n}": "film" for n in (6, 7, 8)})
        rows = score_scripts(ready, events.assign(duration=10.0), task=task, settings=asked)
        assert len(rows) == 24
        assert ready.usable.mask.mean() > 0.9, path.name


@pytest.mark.parametrize(
    ("text", "encoding", "found"),
    [
        ("GSR;Trig\n5,12;0\n5,13;1\n", "utf-8", {"GSR": [5.12, 5.13], "Trig": [0, 1]}),
        ("5,12\t0\n5,13\t1\n", "utf-8", {"column_1": [5.12, 5.13], "column_2": [0, 1]}),
        ("EDA #1\tTrig\n5.12\t0\n5.13\t1\n", "utf-8", {"EDA #1": [5.12, 5.13], "Trig": [0, 1]}),
        ("GSR µS\tTrig\n5.12\t0\n5.13\t1\n", "cp1252", {"GSR µS": [5.12, 5.13], "Trig": [0, 1]}),
        ("EDA\tTrig\n5.12\t0\n5.13\t1\n", "utf-16", {"EDA": [5.12, 5.13], "Trig": [0, 1]}),
        ("EDA\n5.1\n\n5.3\n", "utf-8", {"EDA": [5.1, np.nan, 5.3]}),
        ("# made by a program\nEDA,Trig\n5,0\n6,1\n", "utf-8", {"EDA": [5, 6], "Trig": [0, 1]}),
    ],
    ids=["semicolons", "no header", "number sign", "windows", "utf-16", "blank line", "commas"],
)
def test_texts_of_laboratories_are_read_as_they_are_meant(tmp_path, text, encoding, found):
    (tmp_path / "r.txt").write_bytes(text.encode(encoding))
    read = read_source(tmp_path / "r.txt", frequency=50.0).channels
    assert list(read) == list(found)
    for name, values in found.items():
        np.testing.assert_array_equal(read[name].samples, values)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("5,12\n5,13\n", "one number with a decimal comma, or two"),
        ("EDA\tEDA\n5\t0\n", "names \\['EDA'\\] twice"),
        ("", "no line"),
        ("a;b\n1.234,5;0\n", "not a number"),
    ],
)
def test_texts_that_could_mean_two_things_are_refused(tmp_path, text, says):
    (tmp_path / "r.txt").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=says):
        read_source(tmp_path / "r.txt", frequency=50.0)


def test_brainvision_headers_of_other_programs(tmp_path):
    """Windows' code page, `$b` for the file's own name, a marker file without marks, a damaged mark."""
    np.arange(10, dtype="<i2").tofile(tmp_path / "x.eeg")
    head = "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nCodepage=ANSI\n"
    head += "DataFile=$b.eeg\nMarkerFile=$b.vmrk\nNumberOfChannels=1\nSamplingInterval=16000\n"
    head += "[Binary Infos]\nBinaryFormat=INT_16\n[Channel Infos]\nCh1=GSR,,0.5,µS\n"
    (tmp_path / "x.vhdr").write_bytes(head.encode("cp1252"))
    (tmp_path / "x.vmrk").write_text("title\n[Common Infos]\nDataFile=x.eeg\n", encoding="utf-8")
    source = read_source(tmp_path / "x.vhdr")
    assert source.channels["GSR"].unit == "µS"
    assert source.channels["GSR"].frequency == 62.5
    assert not source.marks
    (tmp_path / "x.vmrk").write_text("title\n[Marker Infos]\nMk1=Stimulus,S1,,1,0\n", encoding="utf-8")
    with pytest.raises(ValueError, match="has no position"):
        read_source(tmp_path / "x.vhdr")
