import json

import pytest

from piwsl.errors import RunDirectoryError
from piwsl.runs.summary import MDSummary, RunSummary, SpeedRecord, ViolationRecord, provenance, recorded_violations

NEEDED = {
    "system": {"name": "ethanol"},
    "ensemble": "nve",
    "temperature_K": "300:500",
    "timestep_fs": 0.5,
    "steps_requested": 10,
    "steps_done": 4,
    "trajectory_interval": 2,
    "result": "interrupted",
}


def test_what_is_written_is_read(tmp_path):
    summary = MDSummary(**provenance(("numpy",), "piwsl md"), **NEEDED)
    summary.speed = SpeedRecord(steps_per_second=3.0, ns_per_day=0.1)
    summary.write(tmp_path)
    assert MDSummary.read(tmp_path) == summary
    assert RunSummary.read(tmp_path).versions == summary.versions  # any summary can be read as its base
    assert json.loads((tmp_path / "summary.json").read_text()) == summary.model_dump(mode="json")


def test_recorded_violations_are_named_at_the_end():
    assert recorded_violations([]) == "no stop rule violated"
    several = [ViolationRecord(rule=rule, step=step) for rule, step in (("bond", 40), ("contact", 60), ("bond", 20))]
    assert recorded_violations(several) == (
        "violated and recorded in summary.json: bond (first at step 20), contact (first at step 60)"
    )


def test_keys_of_other_versions_do_no_harm(tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps(NEEDED | {"of a later version": 1}))
    summary = MDSummary.read(tmp_path)
    assert (summary.started, summary.temperature_K, summary.ended) == ("", "300:500", False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "summary.json is not valid JSON"),
        ("\x00\xff", "summary.json is not valid JSON"),
        ("[]", "summary.json contains no JSON object"),
        ("{}", "not the summary of a molecular dynamics run: missing result, system, ensemble"),
        (json.dumps(NEEDED | {"result": "fine"}), "summary.json: damaged: result: input should be 'completed'"),
        (json.dumps(NEEDED | {"steps_done": "many"}), "summary.json: damaged: steps_done: input should be a valid"),
    ],
)
def test_damage_is_one_line(tmp_path, content, message):
    (tmp_path / "summary.json").write_text(content, encoding="latin-1")
    with pytest.raises(RunDirectoryError) as error:
        MDSummary.read(tmp_path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_directory_without_a_summary(tmp_path):
    with pytest.raises(RunDirectoryError, match=r"holds no summary\.json: it is not the directory of a molecular"):
        MDSummary.read(tmp_path)
    with pytest.raises(RunDirectoryError, match="no such directory"):
        MDSummary.read(tmp_path / "nowhere")


def test_entries_of_another_type_are_one_line(tmp_path):
    whole = {"ensemble": "nve", "temperature_K": 300, "timestep_fs": 0.5, "steps_requested": 1, "steps_done": 1}
    whole |= {"trajectory_interval": 1, "result": "completed", "system": {"name": "water"}}
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(whole))
    assert MDSummary.read(tmp_path).steps_done == 1
    for key in set(whole) - {"temperature_K"}:  # which may be a text, too
        values = [[], {"a": 1}, None, True, float("nan"), -(10**30)]
        for value in values if key == "ensemble" else [*values, "9" * 400]:
            path.write_text(json.dumps({**whole, key: value}))
            with pytest.raises(RunDirectoryError) as caught:
                MDSummary.read(tmp_path)
            assert "\n" not in str(caught.value), key
            assert len(str(caught.value)) < 500
