import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import REPOSITORY

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.loading.document import parse_yaml
from f110_fl.loading.overrides import Override
from f110_fl.loading.scenarios import dump_scenario, load_scenario, parse_resolved
from sim.config import EnvConfig, MapTrack

ROOT = REPOSITORY
REAL = ROOT / "scenarios" / "convoy_lock_td3_original.yaml"
BASE = "name: a\nlearners: {car_0: {algorithm: td3}, car_1: {algorithm: td3}}\n"  # two lines


def load(tmp_path, text, overrides=()):
    file = tmp_path / "s.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_scenario(file, overrides)


def complaint(tmp_path, text, overrides=()):
    """Return the message without the folder, after checking that it is one line."""
    with pytest.raises(UserError) as caught:
        load(tmp_path, text, overrides)
    message = str(caught.value)
    assert message
    assert len(message.splitlines()) == 1
    return message.replace(f"{tmp_path}/", "")


def test_the_real_scenario():
    scenario = load_scenario(REAL)
    assert scenario.name == "convoy_lock_td3_original"
    assert scenario.learners["car_0"].replay.beta_step == 5e-6
    assert scenario.env.cars[1].vehicle == scenario.env.cars[0].vehicle
    assert scenario.env.spawn_sets[3] == ("spawn_4", "spawn_1")
    assert scenario.federated.clients == 3


def test_a_scenario_states_only_what_differs(tmp_path):
    expected = Scenario.model_validate(
        {"name": "a", "learners": {"car_0": {"algorithm": "td3"}, "car_1": {"algorithm": "td3"}}}
    )
    assert load(tmp_path, BASE) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (  # an unknown key
            "env:\n  lidar: {beam: 54}\n",
            "s.yaml:4: env.lidar.beam: unknown key; allowed: beams, dropout, field_of_view, "
            "max_range, mount_x, mount_yaw_error, noise_std, range_scale (did you mean 'beams'?)",
        ),
        (  # a wrong type
            "episodes: '3'\n",
            "s.yaml:3: episodes: found '3' (text); "
            "allowed: a whole number from 1 to 1000000000 [episodes]",
        ),
        (
            "episodes: yes\n",
            "s.yaml:3: episodes: found true (boolean); "
            "allowed: a whole number from 1 to 1000000000 [episodes]",
        ),
        (
            "episodes: 3.0\n",
            "s.yaml:3: episodes: found 3.0 (number); "
            "allowed: a whole number from 1 to 1000000000 [episodes]",
        ),
        (  # a YAML 1.1 octal is no number
            "episodes: 010\n",
            "s.yaml:3: episodes: found '010' (text); "
            "allowed: a whole number from 1 to 1000000000 [episodes]",
        ),
        (
            "env:\n  physics_step: true\n",
            "s.yaml:4: env.physics_step: found true (boolean); "
            "allowed: a number above 0 and at most 0.1 [s]",
        ),
        (
            "federated: {enabled: 1}\n",
            "s.yaml:3: federated.enabled: found 1 (whole number); allowed: true or false",
        ),
        (
            "federated:\n",
            "s.yaml:3: federated: found nothing (null); allowed: a mapping of enabled, clients, ",
        ),
        (
            "env:\n  spawn_sets:\n    - [a, b]\n    - [c, 4]\n",
            "s.yaml:6: env.spawn_sets[1][1]: found 4 (whole number); "
            "allowed: text no longer than 100 [names]",
        ),
        (  # out of range
            "threads: 0\n",
            "s.yaml:3: threads: found 0 (whole number); "
            "allowed: a whole number from 1 to 256 [threads]",
        ),
        (
            "seed: [1, -2, 3]\n",
            "s.yaml:3: seed[1]: found -2 (whole number); "
            "allowed: a whole number from 0 and below 2^63",
        ),
        (
            "seed: {base: 1, step: 0}\n",
            "s.yaml:3: seed.step: found 0 (whole number); "
            "allowed: a whole number from 1 and below 2^63",
        ),
        (
            "seed: one\n",
            "s.yaml:3: seed: found 'one' (text); allowed: a whole number from 0 and below 2^63 or "
            "a list of whole numbers from 0 and below 2^63 or a mapping of base, step, shared",
        ),
        (  # names of an earlier version
            "seeds: [1, 2, 3]\n",
            "s.yaml:3: seeds: unknown key; allowed: ",
        ),
        (
            "federated:\n  weighting: weights\n",
            "s.yaml:4: federated.weighting: found 'weights' (text); "
            "allowed: equal, env_steps or a list of numbers above 0",
        ),
        (
            "curriculum:\n  agent: car_0\n  stages:\n    - spawn_sets: [-1]\n",
            "s.yaml:6: curriculum.stages[0].spawn_sets[0]: found -1 (whole number); "
            "allowed: a whole number from 0 or a list of texts",
        ),
        (
            "env: {physics_step: .inf}\n",
            "s.yaml:3: env.physics_step: found inf (number); "
            "allowed: a number above 0 and at most 0.1 [s]",
        ),
        (
            f"env: {{max_steps: {10**400}}}\n",
            f"s.yaml:3: env.max_steps: found {10**39}, a whole number beyond 64 bits",
        ),
        (
            "env: {cars: []}\n",
            "s.yaml:3: env.cars: found a list of 0; allowed: a list of (a mapping of name, "
            "vehicle, driver, task, reverse) not empty and no longer than 64",
        ),
        (
            "federated:\n  weighting: [1, 2, 0.0]\n",
            "s.yaml:4: federated.weighting[2]: found 0.0 (number); allowed: a number above 0",
        ),
        (  # not one of the choices
            "federated:\n  # why\n  optimizer_strategy: averages\n",
            "s.yaml:5: federated.optimizer_strategy: found 'averages' (text); "
            "allowed: local, average, reset, average_second_moment (did you mean 'average'?)",
        ),
        (
            "env: {observation: [lidar, pos]}\n",
            "s.yaml:3: env.observation[1]: found 'pos' (text); "
            "allowed: lidar, pose, motion, others, others_velocity (did you mean 'pose'?)",
        ),
        (  # discriminated unions
            "env:\n  track:\n    kind: circel\n",
            "s.yaml:5: env.track.kind: found 'circel' (text); allowed: "
            "line2, circle, oval, random, centerline, map, several (did you mean 'circle'?)",
        ),
        (
            "env:\n  track: {kind: 5}\n",
            "s.yaml:4: env.track.kind: found 5 (whole number); "
            "allowed: line2, circle, oval, random, centerline, map, several",
        ),
        (
            "env:\n  track: {radius: 3}\n",
            "s.yaml:4: env.track.kind: is missing; "
            "allowed: line2, circle, oval, random, centerline, map, several",
        ),
        (
            "env:\n  track: circle\n",
            "s.yaml:4: env.track: found 'circle' (text); "
            "allowed: a mapping with kind: line2, circle, oval, random, centerline, map, several"
            " (did you mean 'circle'?)",
        ),
        (
            "env:\n  track:\n    kind: circle\n    radius: big\n",
            "s.yaml:6: env.track.radius: found 'big' (text); "
            "allowed: a number above 1 and at most 500 [m]",
        ),
        (
            "env:\n  track:\n    kind: circle\n    diameter: 3\n",
            "s.yaml:6: env.track.diameter: unknown key; allowed: kind, radius, resolution, width",
        ),
        (
            "env:\n  cars:\n    - name: car_0\n    - name: car_1\n      driver: {kind: human}\n",
            "s.yaml:7: env.cars[1].driver.kind: found 'human' (text); allowed: secondary_vicon",
        ),
        (  # missing keys
            "env:\n  track:\n    kind: map\n",
            "s.yaml:4: env.track.file: is missing; allowed: a map's YAML file [path]",
        ),
        (
            "env:\n  cars:\n    - reverse: false\n    - name: car_1\n",
            "s.yaml:5: env.cars[0].name: is missing; "
            "allowed: text not empty and no longer than 64 and "
            "matching ^[A-Za-z][A-Za-z0-9_]*$ [name]",
        ),
        (  # rules between keys
            "env:\n  track: {kind: circle, width: 30}\n",
            "s.yaml:4: env.track: width must be below twice the radius, 20 m",
        ),
        (
            "env:\n  cars: [{name: car_0}, {name: car_0}]\n",
            "s.yaml:3: env: two cars are named 'car_0'",
        ),
        ("seed: [1]\n", "s.yaml:1: seed lists 1, but federated.clients is 3; allowed: one seed "),
        (  # YAML itself
            "seed: 1\nseed: 2\n",
            "s.yaml:4: key 'seed' is given twice, first on line 3",
        ),
        (
            "env:\n  lidar: {beams: 1, beams: 1}\n",
            "s.yaml:4: env.lidar: key 'beams' is given twice, first on line 4",
        ),
        ("1: 2\n", "s.yaml:3: keys are text, found '1'"),
        ("env: {[a]: 2}\n", "s.yaml:3: env: keys are text, found a collection"),
        ("env: &e\n  lidar: *e\n", "s.yaml:3: env.lidar: a value cannot contain itself"),
        ("env: &e\n  <<: *e\n", "s.yaml:3: env: a value cannot contain itself"),
        ("env:\n  <<: 3\n", "s.yaml:4: env: '<<' takes a mapping or a list of mappings"),
        ("seed: !!int x\n", "s.yaml:3: seed: 'x' is not a !!int"),
        ("seed: !!python/name:os.system\n", "s.yaml:3: seed: tag '!!python/name:os.system' is "),
        ("env: !!set {a}\n", "s.yaml:3: env: tag '!!set' is not allowed"),
        ("env: [a\n", "s.yaml:4: not YAML: while parsing a flow sequence, "),
        ("\tenv: 1\n", "s.yaml:3: not YAML: while scanning for the next token, "),
        ("env: *nobody\n", "s.yaml:3: not YAML: found undefined alias 'nobody'"),
        ("---\nname: b\n", "s.yaml:3: not YAML: expected a single document in the stream, "),
        ("seed: \x07\n", "s.yaml:3: not YAML: special characters are not allowed"),
        ('name2: "\\U99999999"\n', "s.yaml:1: not YAML: "),
        ("env: " + "[" * 3000 + "]" * 3000, "s.yaml:1: nested too deeply"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_says_what_is_allowed(tmp_path, text, message):
    assert complaint(tmp_path, BASE + text).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "s.yaml:1: found an empty file; allowed: a mapping of name, seed, "),
        ("# nothing\n\n", "s.yaml:1: found an empty file; allowed: a mapping of name, seed, "),
        ("\n- name\n", "s.yaml:2: found a list of 1; allowed: a mapping of name, seed, "),
        ("text", "s.yaml:1: found 'text' (text); allowed: a mapping of name, seed, "),
        (b"name: a\nlearners: \xff\n", "s.yaml:2: byte 0xff is not UTF-8 text"),
        ("# c\nseed: 1\n", "s.yaml:2: name: is missing; allowed: "),
        ("name: a\n", "s.yaml:1: car 'car_0' has neither a driver nor one of the learners"),
        (
            "name: no\nlearners: {car_0: {algorithm: td3}}",
            "s.yaml:1: name: found false (boolean); ",
        ),
    ],
)
def test_a_file_that_is_no_scenario(tmp_path, text, message):
    assert complaint(tmp_path, text).startswith(message)


def test_a_file_that_cannot_be_read(tmp_path):
    for path, words in (
        (tmp_path / "none.yaml", "none.yaml: no such file"),
        (tmp_path, "is a directory"),
        (tmp_path / "nul\0", "cannot be read"),
        (tmp_path / ("x" * 300), "cannot be read"),
        (tmp_path / "new\nline", "no such file"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            load_scenario(path)
        assert len(str(caught.value).splitlines()) == 1


def test_the_first_of_several_mistakes_in_the_order_of_the_file(tmp_path):
    text = BASE + "wandb: {prefix: 3}\nthreads: 0\nseed: -1\nfederated:\n  clients: x\n"
    message = complaint(tmp_path, text)
    assert message.startswith("s.yaml:3: wandb.prefix: found 3 (whole number); allowed: text")
    assert message.endswith(" (and 3 more)")


def test_a_mistake_behind_an_alias_counts_once(tmp_path):
    text = BASE + (
        "env:\n  cars:\n"
        "    - {name: car_0, vehicle: &small {mass: -1}}\n    - {name: car_1, vehicle: *small}\n"
    )
    message = complaint(tmp_path, text)
    assert message == (
        "s.yaml:5: env.cars[0].vehicle.mass: found -1 (whole number); "
        "allowed: a number above 0 and at most 10000 [kg]"
    )


def test_merge_keys_and_their_lines(tmp_path):
    text = BASE + (
        "env:\n  cars:\n"
        "    - name: car_0\n      vehicle: &a {mass: 1, length: 2}\n"
        "    - name: car_1\n      vehicle:\n        <<: [{length: 3}, *a]\n        mass: 4\n"
    )
    car = load(tmp_path, text).env.cars[1].vehicle
    assert (car.mass, car.length) == (4, 3)
    assert complaint(tmp_path, text.replace("length: 3", "length: x")).startswith("s.yaml:9: env")
    assert complaint(tmp_path, text.replace("mass: 4", "mass: x")).startswith("s.yaml:10: env")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_spelling_of_a_number_is_that_number(value):
    for text in (repr(value), f"{value:.17e}", f"{value:.17E}".replace("E+", "E")):
        assert parse_yaml(f"x: {text}", "f").data == {"x": value}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-6", 5e-6), ("+.5", 0.5), ("1_000", 1000), ("0x1F", 31), ("-7", -7), ("1.", 1.0),
        ("012", "012"), ("1:30", "1:30"), ("2024-01-01", "2024-01-01"), ("e5", "e5"), ("=", "="),
        ("off", False), ("Yes", True), ("~", None), ("", None), ("'3'", "3"), ("!!str 3", "3"),
        ("-.inf", -float("inf")), ("!!float 3", 3.0), ("[1, [2]]", (1, (2,))), ("1.2.3", "1.2.3"),
    ],
)  # fmt: skip
def test_yaml_scalars(text, value):
    found = parse_yaml(f"x: {text}", "f").data["x"]
    assert found == value
    assert type(found) is type(value)


def test_a_map_file_is_relative_to_the_scenario(tmp_path, monkeypatch):
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "oval.yaml").write_text("")
    text = BASE + "env:\n  track:\n    kind: map\n    file: maps/oval.yaml\n"
    expected = str((tmp_path / "maps/oval.yaml").resolve())
    assert load(tmp_path, text).env.track.file == expected
    monkeypatch.chdir(tmp_path)
    assert load(Path(), text).env.track.file == expected
    assert load(Path(), text.replace("maps/", f"{tmp_path}/maps/")).env.track.file == expected
    message = complaint(tmp_path, text.replace("oval", "ovol"))
    assert message.startswith("s.yaml:6: env.track.file: found 'maps/ovol.yaml', no such file in ")


def test_files_of_lanes_and_racelines_are_relative_to_the_scenario(tmp_path):
    (tmp_path / "a.csv").write_text("")
    text = "name: a\nlearners: {car_0: {algorithm: td3}}\n" + (
        "env:\n  track: {kind: centerline, file: a.csv}\n  cars:\n    - name: car_0\n"
        "    - name: car_1\n      driver: {kind: pure_pursuit, raceline: a.csv}\n"
    )
    found = load(tmp_path, text).env
    assert found.track.file == found.cars[1].driver.raceline == str(tmp_path.resolve() / "a.csv")
    message = complaint(tmp_path, text.replace("raceline: a", "raceline: b"))
    assert "env.cars[1].driver.raceline: found 'b.csv', no such file in " in message
    assert message.startswith("s.yaml:8: ")
    assert message.endswith("allowed: a CSV file")
    assert "env.track.file: found 'b.csv'" in complaint(
        tmp_path, text.replace("file: a", "file: b")
    )
    text = BASE + (
        "env:\n  track:\n    kind: several\n    tracks:\n      - {kind: oval}\n"
        "      - {kind: centerline, file: a.csv}\n"
    )
    assert load(tmp_path, text).env.track.tracks[1].file == str(tmp_path.resolve() / "a.csv")
    message = complaint(tmp_path, text.replace("a.csv", "b.csv"))
    assert message.startswith("s.yaml:8: env.track.tracks[1].file: found 'b.csv', no such file in ")
    held_out = BASE + "evaluation:\n  track: {kind: centerline, file: a.csv}\n"
    found = load(tmp_path, held_out).evaluation.track.file
    assert found == str(tmp_path.resolve() / "a.csv")
    message = complaint(tmp_path, held_out.replace("a.csv", "b.csv"))
    assert message.startswith("s.yaml:4: evaluation.track.file: found 'b.csv', no such file in ")
    message = complaint(tmp_path, text.replace("oval", "ovol"))
    assert message.startswith("s.yaml:7: env.track.tracks[0].kind: found 'ovol' (text); allowed: ")


def test_overrides_win_and_later_ones_win_over_earlier(tmp_path):
    def clients(value):
        return Override("X", ("federated", "clients"), value, str(value), "whatever")

    text = BASE + "federated: {clients: 4}\n"
    assert load(tmp_path, text).federated.clients == 4
    assert load(tmp_path, text, [clients(5)]).federated.clients == 5
    assert load(tmp_path, BASE, [clients(5), clients(6)]).federated.clients == 6


def test_an_override_that_the_models_refuse_is_named(tmp_path):
    wrong = Override("X", ("federated", "clients"), 0, "0", "one or more")
    assert complaint(tmp_path, BASE + "threads: 0\n", [wrong]) == (
        "X='0': allowed: one or more (and 1 more)"
    )
    on_top = complaint(tmp_path, BASE + "federated: 3\n", [wrong])
    assert on_top.startswith("s.yaml:3: federated: found 3 (whole number)")


# Braces would be placeholders.
PLAIN = st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"]), min_size=1)


@st.composite
def scenarios(draw):
    def some(**choices):
        return st.fixed_dictionaries({}, optional=choices)

    positive = st.floats(1e-300, 1e4)
    tracks = st.one_of(
        st.just({"kind": "line2"}),
        st.fixed_dictionaries({"kind": st.just("circle"), "radius": st.floats(2, 500)}),
        st.fixed_dictionaries({"kind": st.just("map"), "file": st.text(min_size=1)}),
    )
    clients = draw(st.integers(1, 5))
    federated = {"clients": clients, "root": draw(PLAIN)}
    if draw(st.booleans()):
        weights = draw(st.lists(positive, min_size=clients, max_size=clients))
        federated["weighting"] = tuple(weights)
    cars = (
        {
            "name": "car_0",
            "task": {"kind": "convoy_lock", "success_reward": draw(st.floats(-9, 9))},
        },
        {
            "name": "car_1",
            "driver": {"kind": "secondary_vicon"},
            "vehicle": {"mass": draw(positive)},
        },
    )
    learner = some(
        hidden=st.lists(st.integers(1, 9), min_size=1, max_size=16).map(tuple), tau=st.floats(0, 1)
    )
    return Scenario.model_validate(
        {
            "name": "a",
            "seed": draw(st.integers(0, 2**63 - 1)),
            "env": {"track": draw(tracks), "cars": cars},
            "learners": {"car_0": {"algorithm": "td3", **draw(learner)}},
            "federated": federated,
            "wandb": {"prefix": draw(st.text())},
        }
    )  # fmt: skip


@given(scenarios())
def test_dump_and_parse_are_inverse(scenario):
    text = dump_scenario(scenario)
    assert parse_resolved(text) == scenario
    assert dump_scenario(parse_resolved(text)) == text


FORMAT_2 = '{"format": 2, '


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", FORMAT_2 + '"name": 3}', "null", FORMAT_2 + '"a\\nb": 1}']
)
def test_a_broken_resolved_scenario_is_one_line(text):
    with pytest.raises(UserError) as caught:
        parse_resolved(text, "run/config.json")
    assert str(caught.value).startswith("run/config.json: ")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("version", [None, 1, 3, "2"])
def test_a_resolved_scenario_of_another_version_is_refused(version):
    """Before formats were numbered, there were ``seeds``, ``weights`` and ``collect.workers``."""
    data = json.loads(dump_scenario(load_scenario(REAL)))
    del data["format"]
    data |= {"seeds": [], "collect": {"workers": 1}}
    found = "no format number" if version is None else f"format {version}"
    with pytest.raises(UserError) as caught:
        parse_resolved(json.dumps(data if version is None else {"format": version, **data}), "c")
    assert str(caught.value) == (
        f"c: {found}, written by another version of this program; this one reads format 2: "
        "start a new run, or go on with the version that began it"
    )


@pytest.fixture
def validations(monkeypatch):
    """How often a whole scenario was validated."""
    found = []
    own = Scenario._check_agents
    monkeypatch.setattr(Scenario, "_check_agents", lambda self: (found.append(self), own(self))[1])
    return found


def test_a_scenario_is_validated_once_where_it_is_read_or_received(tmp_path, validations):
    (tmp_path / "a.csv").write_text("")
    text = BASE + (
        "env:\n  track: {kind: centerline, file: a.csv}\n"
        "federated:\n  vary:\n    env.max_steps: [3, 4, 5]\n"
    )
    overrides = [
        Override("X", ("federated", "clients"), 4),
        Override("Y", ("seed",), 3),
        Override("Z", ("federated", "weighting"), (1.0, 2.0, 3.0, 4.0)),
    ]
    scenario = load(tmp_path, text, overrides)
    assert len(validations) == 1
    assert parse_resolved(dump_scenario(scenario)) == scenario
    assert len(validations) == 2
    complaint(tmp_path, text, [overrides[0], Override("Y", ("federated", "weighting"), (1.0,))])
    assert len(validations) == 2  # a rule within `federated` was broken


def test_without_a_folder_names_of_files_stay_as_they_are():
    track = {"kind": "map", "file": "nowhere/else.yaml"}
    assert EnvConfig.model_validate({"track": track}).track.file == "nowhere/else.yaml"
    assert MapTrack(file="nowhere/else.yaml").file == "nowhere/else.yaml"


def test_loading_a_scenario_imports_nothing_heavy():
    code = (
        "import sys; from pathlib import Path; from f110_fl.loading.scenarios import load_scenario;"
        "import f110_fl.files, f110_fl.loading.overrides; load_scenario(Path(sys.argv[1]));"
        "print([m for m in ('torch', 'numba', 'numpy', 'flwr', 'ray') if m in sys.modules])"
    )
    run = [sys.executable, "-c", code, str(REAL)]
    found = subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"
