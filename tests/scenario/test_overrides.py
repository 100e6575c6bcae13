import argparse
import subprocess
import sys
import tomllib
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import REPOSITORY

from f110_fl.config.scenario import SeedSteps
from f110_fl.errors import UserError
from f110_fl.loading.arguments import add_arguments
from f110_fl.loading.flags import (
    SETTINGS,
    VARIABLES,
    Mode,
    client_id,
    command_line_overrides,
    environment_overrides,
    outside_overrides,
    run_config_overrides,
)
from f110_fl.loading.scenarios import dump_scenario, load_scenario, parse_resolved
from sim.config import CircleTrack

ROOT = REPOSITORY
BASE = "name: a\nlearners: {car_0: {algorithm: td3}, car_1: {algorithm: td3}}\n"  # two lines

NO_TRACK = (
    "no such track or file; allowed: line2, circle, oval, random, "
    "or a map's YAML or a centre line's CSV file"
)


def arguments(*flags):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(flags)


def resolve(tmp_path, text="", environ=None, flags=()):
    file = tmp_path / "s.yaml"
    file.write_text(BASE + text)
    overrides = environment_overrides(environ or {}) + command_line_overrides(arguments(*flags))
    return load_scenario(file, overrides)


def complaint(act, *args, **kwargs):
    with pytest.raises(UserError) as caught:
        act(*args, **kwargs)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def at(scenario, key):
    return reduce(getattr, key.split("."), scenario)


GOOD = {
    **{f"COLLECT_{n}": ("4", 4) for n in ("WORKERS", "PREFETCH", "SEED_STRIDE")},
    **{f"--collect-{n}": ("4", 4) for n in ("workers", "prefetch", "seed-stride")},
    "FED_TOTAL_CLIENTS": ("5", 5),
    "FED_ROOT": ("runs/x y", "runs/x y"),
    "FED_ROUND_INTERVAL": (" 7 ", 7),
    "FED_CHECKPOINT_AFTER_SYNC": ("Off", False),
    "FED_OPTIMIZER_STRATEGY": ("reset", "reset"),
    "FED_ENABLED": ("no", False),
    "FED_AGENTS": ("car_1, car_0", ("car_1", "car_0")),
    "FED_AVG_MODE": ("env_steps", "env_steps"),
    "FED_KEEP_ROUNDS": ("3", 3),
    "FED_PRIVACY_BUDGET": ("8", 8.0),
    "FED_TIMEOUT": ("1.5e3", 1500.0),
    "FED_WEIGHTS": ("2:3,0:1,1:2", (1.0, 2.0, 3.0)),
    "--map": ("circle", CircleTrack()),
    "--auto-seed": (None, SeedSteps(base=0, shared=0)),
    "--seed": ("7", 7),
    "RUN_SEED": ("9223372036854775807", 2**63 - 1),
    "WANDB_RUN_GROUP": ("mine {x}", "mine {{x}}"),
    "WANDB_NAME": ("run {", "run {{"),
    "--repeat": ("4", 4),
    "--episodes": ("12", 12),
    "--eval-episodes": ("0", 0),
    "--wandb-prefix": ("", ""),
    "--wandb-group-template": ("{scenario}", "{scenario}"),
    "--wandb-name-template": ("{role}-{seed}", "{role}-{seed}"),
}


NEEDED = {"FED_PRIVACY_BUDGET": "federated: {privacy: {kind: central}}\n"}  # in the file
PLAIN = [setting for setting in SETTINGS if setting.key and not setting.needs]
SPELLINGS = [
    (name, setting.key) for setting in PLAIN for name in (setting.variable, setting.flag) if name
]


def test_the_table_holds_every_spelling_once():
    assert sorted(name for name, _ in SPELLINGS) == sorted(GOOD)
    keys = [setting.run_config for setting in SETTINGS if setting.run_config]
    assert len(set(keys)) == len(keys)


def test_the_table_and_the_apps_run_config_agree():
    text = (ROOT / "pyproject.toml").read_text()
    config = tomllib.loads(text)["tool"]["flwr"]["app"]["config"]
    own = {"scenario", "prepared-root", "submitted", "submitted-resume", "submitted-episodes"}
    assert set(config) - own == {setting.run_config for setting in SETTINGS} - {""}


@pytest.mark.parametrize(("name", "key"), SPELLINGS)
def test_each_setting_reaches_its_key(tmp_path, name, key):
    text, value = GOOD[name]
    if not name.startswith("--"):
        scenario = resolve(tmp_path, NEEDED.get(name, ""), {name: text})
    else:
        scenario = resolve(tmp_path, flags=[name] if text is None else [name, text])
    assert at(scenario, key) == value
    assert type(at(scenario, key)) is type(value)


@pytest.mark.parametrize("setting", [s for s in PLAIN if s.run_config], ids=lambda s: s.run_config)
def test_each_key_of_the_run_config_reaches_the_same_key(tmp_path, setting):
    text, value = GOOD[setting.variable or setting.flag]
    file = tmp_path / "s.yaml"
    file.write_text(BASE)
    found = load_scenario(file, run_config_overrides({setting.run_config: text}))
    assert at(found, setting.key) == value
    assert run_config_overrides({setting.run_config: ""}) == []
    if setting.flag != "--wandb-prefix":  # which takes any text
        message = complaint(run_config_overrides, {setting.run_config: " "})
        assert message.startswith(f"--run-config {setting.run_config}=' ': is empty; allowed: ")


def test_keys_of_the_run_config_must_not_contradict_each_other():
    message = complaint(run_config_overrides, {"weighting": "equal", "weights": "1,2"})
    assert message == (
        "--run-config weights='1,2': contradicts --run-config weighting='equal'; leave one out"
    )


def test_literal_wandb_names_survive_formatting(tmp_path):
    wandb = resolve(tmp_path, environ={"WANDB_NAME": "{role} }{"}).wandb
    assert wandb.name_template.format(role="x") == "{role} }{"


def test_precedence(tmp_path):
    text, environ = "federated: {clients: 4}\n", {"FED_TOTAL_CLIENTS": "5"}
    assert resolve(tmp_path).federated.clients == 3
    assert resolve(tmp_path, text).federated.clients == 4
    assert resolve(tmp_path, text, environ).federated.clients == 5
    assert resolve(tmp_path, text, environ, ["--repeat", "6"]).federated.clients == 6


BAD = [
    ({"FED_OPTIMIZER_STRATEGY": "avrage"},
     "'avrage': allowed: local, average, reset, average_second_moment (did you mean 'average'?)"),
    ({"FED_OPTIMIZER_STRATEGY": "foo"}, "'foo': allowed: local, average, reset"),
    ({"FED_AVG_MODE": "Equal"},
     "'Equal': allowed: equal, env_steps, or weights, which FED_WEIGHTS or the scenario lists "
     "(did you mean 'equal'?)"),
    ({"FED_TIMEOUT": "-1"}, "'-1': allowed: a number above 0 and at most 1000000000 [s]"),
    ({"FED_TIMEOUT": "nan"}, "'nan': 'nan' is not a number; allowed: a number above 0 and at most"),
    ({"FED_TIMEOUT": "1e999"}, "'1e999': allowed: a number above 0 and at most 1000000000 [s]"),
    ({"FED_TIMEOUT": ""}, "'': is empty; allowed: a number above 0 and at most 1000000000 [s]"),
    ({"FED_ROOT": " "}, "' ': is empty; allowed: text not empty [path]"),
    ({"FED_TOTAL_CLIENTS": "0"},
     "'0': allowed: a whole number from 1 to 10000 [clients]"),
    ({"FED_TOTAL_CLIENTS": "3.0"},
     "'3.0': not a whole number; allowed: a whole number from 1 to 10000 [clients]"),
    ({"FED_TOTAL_CLIENTS": "٣"}, "'٣': not a whole number; "),
    ({"FED_TOTAL_CLIENTS": "1_0"}, "'1_0': not a whole number; "),
    ({"FED_ROUND_INTERVAL": "0"}, "'0': allowed: a whole number from 1 to 1000000000 [episodes]"),
    ({"FED_ENABLED": "2"},
     "'2': neither 1, true, yes, on nor 0, false, no, off; allowed: true or false"),
    ({"FED_CHECKPOINT_AFTER_SYNC": "never"}, "'never': neither 1, true, "),
    ({"FED_KEEP_ROUNDS": "0"}, "'0': allowed: all, best, or a number of rounds from 1"),
    ({"FED_AGENTS": "car_0,"},
     "'car_0,': an empty name between commas; allowed: learners' names, separated by commas"),
    ({"RUN_SEED": "-1"}, "'-1': allowed: a whole number from 0 and below 2^63"),
    ({"RUN_SEED": str(2**63)},
     "'9223372036854775808': allowed: a whole number from 0 and below 2^63"),
    ({"RUN_SEED": "1" * 5000}, "'1111"),
    ({"RUN_SEED": "1\n2"}, "'1\\n2': not a whole number; "),
    ({"FED_WEIGHTS": "1,x"},
     "'1,x': 'x' is not a number; allowed: numbers above 0, as id:weight,... or "),
    ({"FED_WEIGHTS": "1,0"}, "'1,0': allowed: numbers above 0, as id:weight,... or "),
    ({"FED_WEIGHTS": "0:1,2:1"},
     "'0:1,2:1': client ids are [0, 2], not 0 to clients - 1, each once; "),
    ({"FED_WEIGHTS": "0:1,0:1"}, "'0:1,0:1': client 0 comes twice; "),
    ({"FED_WEIGHTS": "0:1,2"}, "'0:1,2': '2' is not id:weight; "),
    ({"FED_WEIGHTS": "0:1:2"}, "'0:1:2': '1:2' is not a number; "),
    ({"WANDB_MODE": "ofline"},
     "'ofline': allowed: online, offline, disabled, shared (did you mean 'offline'?)"),
    ({"FED_OPTIMISER_STRATEGY": "local"},
     "'local': unknown variable (did you mean 'FED_OPTIMIZER_STRATEGY'?)"),
]  # fmt: skip


@pytest.mark.parametrize(("environ", "message"), BAD)
def test_a_variable_that_cannot_be_used_is_named(environ, message):
    (name,) = environ
    assert complaint(environment_overrides, environ).startswith(f"{name}={message}")


def test_a_shadowed_variable_must_still_be_usable(tmp_path):
    message = complaint(resolve, tmp_path, "", {"FED_TOTAL_CLIENTS": "x"}, ["--repeat", "2"])
    assert message.startswith("FED_TOTAL_CLIENTS='x': not a whole number")


def test_empty_wandb_variables_are_unset_and_strangers_are_left_alone():
    environ = {"WANDB_NAME": "", "WANDB_RUN_GROUP": "", "WANDB_MODE": "", "FED_EX": "1", "HOME": ""}
    assert environment_overrides(environ) == []
    assert environment_overrides({"WANDB_MODE": "offline", "FED_CLIENT_ID": "0"}) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--episodes=0"], "--episodes='0': allowed: a whole number from 1 to 1000000000"),
        (["--episodes", "-5"], "--episodes='-5': allowed: a whole number from 1 to 1000000000"),
        (["--eval-episodes", "x"], "--eval-episodes='x': not a whole number; allowed: "),
        (["--repeat", "0"], "--repeat='0': allowed: a whole number from 1 "),
        (["--repeat", ""], "--repeat='': is empty; allowed: a whole number from 1 to 10000"),
        (["--wandb-name-template", ""], "--wandb-name-template='': is empty; allowed: text"),
        (["--seed-base", "3"], "--seed-base='3': needs --auto-seed"),
        (["--seed-step", "3"], "--seed-step='3': needs --auto-seed"),
        (["--auto-seed", "--seed-base", "x"], "--seed-base='x': not a whole number; allowed: "),
        (["--auto-seed", "--seed-base=-1"], "--seed-base='-1': allowed: a whole number from 0"),
        (["--auto-seed", "--seed-step", "0"], "--seed-step='0': allowed: a whole number from 1"),
        (["--map", "circel"], "--map='circel': no such track or file (did you mean 'circle'?); "),
        (["--map", "map"], f"--map='map': {NO_TRACK}"),
        (["--map", "/"], f"--map='/': {NO_TRACK}"),
        (["--map", ""], "--map='': is empty; allowed: line2, circle, oval, random, or a map's "),
        (["--map", "x" * 300], "--map='xxx"),
    ],
)  # fmt: skip
def test_a_flag_that_cannot_be_used_is_named(flags, message):
    assert complaint(command_line_overrides, arguments(*flags)).startswith(message)


def test_map_names_a_track_or_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "oval.yaml").write_text("")
    (tmp_path / "line2").write_text("")
    text = "env: {track: {kind: circle, radius: 3}}\n"
    folder = tmp_path / "there"
    assert resolve(folder, text).env.track.radius == 3
    assert resolve(folder, text, flags=["--map", "circle"]).env.track.radius == 10
    assert resolve(folder, text, flags=["--map", "line2"]).env.track.kind == "line2"
    for name, kind in (("oval.yaml", "map"), ("./line2", "map"), ("lane.csv", "centerline")):
        (tmp_path / name).touch()
        track = resolve(folder, text, flags=["--map", name]).env.track
        assert (track.kind, track.file) == (kind, str((tmp_path / name).resolve()))


def test_auto_seed_counts_from_the_base_for_every_client(tmp_path):
    def seeds(*flags, text="", environ=None):
        scenario = resolve(tmp_path, text, environ, ["--auto-seed", *flags])
        own = [scenario.client_seed(k) for k in range(scenario.federated.clients)]
        return (scenario.shared_seed, *own)

    # The first is that of what clients share; the base is not, so that it changes clients alone.
    assert seeds() == (0, 0, 1, 2)
    assert seeds(text="seed: 7\n") == (7, 7, 8, 9)
    assert seeds(text="seed: 7\n", environ={"RUN_SEED": "5"}) == (5, 5, 6, 7)
    assert seeds("--set", "seed=9", text="seed: 7\n") == (9, 9, 10, 11)
    assert seeds("--seed-base", "10", "--repeat", "2", text="seed: 7\n") == (7, 10, 11)
    assert seeds("--seed-step", "10", environ={"FED_TOTAL_CLIENTS": "2"}) == (0, 0, 10)
    assert seeds("--repeat", "2", text="seed: [1, 2, 3]\n") == (0, 0, 1)
    assert seeds("--seed-step", "2", text="seed: {base: 4, step: 5}\n") == (4, 4, 6, 8)
    assert seeds("--seed-base", "2", text="seed: {base: 4, step: 5}\n") == (4, 2, 7, 12)


def test_seeds_of_clients_and_of_what_they_share(tmp_path):
    def seeds(text):
        scenario = resolve(tmp_path, text)
        return (scenario.shared_seed, *map(scenario.client_seed, range(3)))

    assert seeds("seed: 7\n") == (7, 7, 7, 7)
    assert seeds("seed: [4, 9, 2]\n") == (0, 4, 9, 2)
    assert seeds("seed: {base: 4}\n") == (4, 4, 5, 6)
    assert seeds("seed: {base: 4, step: 10, shared: 1}\n") == (1, 4, 14, 24)


def test_auto_seed_beyond_the_largest_seed(tmp_path):
    flags = ["--auto-seed", "--seed-base", str(2**63 - 2)]
    assert complaint(resolve, tmp_path, flags=flags) == (
        f"--auto-seed, --seed-base='{2**63 - 2}': {tmp_path / 's.yaml'}:1: seed.base + 2 * "
        f"seed.step, the seed of client 2, is {2**63}; allowed: below 2^63"
    )


def test_auto_seed_leaves_the_complaint_to_what_is_wrong(tmp_path):
    for text, words in (
        ("seed: x\n", "s.yaml:3: seed: found 'x'"),
        ("federated: 3\n", "s.yaml:3: federated: found 3"),
        ("federated: {clients: 1000000000000}\n", "s.yaml:3: federated.clients: found 1000000"),
    ):
        assert words in complaint(resolve, tmp_path, text, flags=["--auto-seed"])


def test_run_seed_replaces_seeds(tmp_path):
    assert resolve(tmp_path, "seed: [1, 2, 3]\n", {"RUN_SEED": "9"}).seed == 9


def test_weights_and_averaging_mode(tmp_path):
    def weighting(text, environ, *flags):
        return resolve(tmp_path, text, environ, flags).federated.weighting

    weighted = "federated: {weighting: [1, 2, 3]}\n"
    assert weighting(weighted, {}) == (1, 2, 3)
    assert weighting("", {"FED_WEIGHTS": "3,2,1"}) == (3, 2, 1)
    both = {"FED_WEIGHTS": "3,2,1", "FED_AVG_MODE": "weights"}
    assert weighting("", both) == weighting(weighted, both) == (3, 2, 1)
    assert weighting(weighted, {"FED_AVG_MODE": "equal"}) == "equal"
    assert weighting(weighted, {"FED_AVG_MODE": "weights"}) == (1, 2, 3)
    assert (
        weighting("", {"FED_AVG_MODE": "weights"}, "--set", "federated.weighting=equal") == "equal"
    )
    assert complaint(environment_overrides, {**both, "FED_AVG_MODE": "equal"}) == (
        "FED_WEIGHTS='3,2,1': contradicts FED_AVG_MODE='equal'; leave one out"
    )
    for text in ("", "federated: {weighting: equal}\n"):
        assert complaint(weighting, text, {"FED_AVG_MODE": "weights"}) == (
            "FED_AVG_MODE='weights': allowed: equal, env_steps, or weights, which FED_WEIGHTS or "
            "the scenario lists"
        )


@pytest.mark.parametrize(
    ("text", "environ", "flags", "blamed"),
    [
        ("federated: {weighting: [1, 2, 3]}\n",
         {"FED_TOTAL_CLIENTS": "2"}, [], "FED_TOTAL_CLIENTS='2': "),
        ("federated: {weighting: [1, 2, 3]}\n",
         {"FED_TOTAL_CLIENTS": "2", "FED_TIMEOUT": "3"}, ["--repeat", "4"], "--repeat='4': "),
        ("", {"FED_WEIGHTS": "1,2", "FED_TIMEOUT": "3"}, [], "FED_WEIGHTS='1,2': "),
        ("", {"FED_WEIGHTS": "1,2,3"}, ["--repeat", "2"], "FED_WEIGHTS='1,2,3', --repeat='2': "),
        ("", {"FED_AGENTS": "car_2"}, ["--episodes", "3"], "FED_AGENTS='car_2': "),
        ("seed: [1, 2, 3]\n", {}, ["--repeat", "2", "--episodes", "3"], "--repeat='2': "),
        ("", {}, ["--set", "federated.evaluate_on=clients", "--eval-episodes=0", "--episodes=3"],
         "--eval-episodes='0', --set federated.evaluate_on='clients': "),
        ("", {}, ["--set", "learners={}", "--episodes=3"], "--set learners='{}': "),
        ("federated: {weighting: [1]}\n", {"FED_TIMEOUT": "3"}, [], ""),
    ],
)  # fmt: skip
def test_a_rule_between_keys_names_who_broke_it(tmp_path, text, environ, flags, blamed):
    message = complaint(resolve, tmp_path, text, environ, flags)
    assert message.startswith(f"{blamed}{tmp_path / 's.yaml'}:")


def test_client_id():
    assert client_id({}, 3) is None
    assert [client_id({"FED_CLIENT_ID": str(k)}, 3) for k in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("text", ["5", "3", "-1", "", "x", "1.0", "1" * 5000, "0\n1"])
def test_a_client_id_outside_the_federation(text):
    message = complaint(client_id, {"FED_CLIENT_ID": text}, 3)
    assert message == (
        f"FED_CLIENT_ID={text!r}: allowed: a whole number from 0 to 2, as there are 3 clients"
    )


@pytest.mark.parametrize("name", ["COLLECT_WORKERS", "COLLECT_PREFETCH", "COLLECT_SEED_STRIDE"])
def test_the_collector_by_variable_and_by_flag(tmp_path, name):
    key, flag = name.lower().removeprefix("collect_"), "--" + name.lower().replace("_", "-")
    key = key.replace("workers", "num_envs")
    by_variable = resolve(tmp_path, "", {name: "4"}, [])
    assert by_variable.collect.model_dump()[key] == 4
    assert resolve(tmp_path, "", {name: "4"}, [flag, "6"]).collect.model_dump()[key] == 6
    for text in ("0", "", "x", "1.5"):
        assert f"{name}={text!r}: " in complaint(resolve, tmp_path, "", {name: text}, [])
        assert f"{flag}={text!r}: " in complaint(resolve, tmp_path, "", {}, [flag, text])


@given(st.lists(st.floats(1e-300, 1e9), min_size=1, max_size=6), st.randoms())
def test_weights_read_back_in_any_order(weights, random):
    def read(text):
        (override,) = environment_overrides({"FED_WEIGHTS": text})
        return override.path, override.value

    entries = [f"{k}:{weight!r}" for k, weight in enumerate(weights)]
    random.shuffle(entries)
    expected = (("federated", "weighting"), tuple(weights))
    assert read(",".join(entries)) == read(", ".join(map(repr, weights))) == expected


@given(st.sampled_from(VARIABLES), st.text(max_size=12))
def test_any_text_is_used_or_named(name, text):
    try:
        overrides = environment_overrides({name: text})
        message = f"{name}="
    except UserError as error:
        overrides, message = [], str(error)
    assert message.startswith(f"{name}=")
    assert len(message.splitlines()) == 1
    assert all(override.source == name for override in overrides)


@given(
    st.dictionaries(
        st.sampled_from(VARIABLES),
        st.one_of(
            st.sampled_from([text for text, _ in GOOD.values()]), st.text(max_size=5), st.just("2")
        ),
    )
)
def test_any_environment_loads_or_is_one_line(tmp_path_factory, environ):
    folder = tmp_path_factory.getbasetemp()
    message = ""
    try:
        scenario = resolve(folder, "", environ)
        assert parse_resolved(dump_scenario(scenario)) == scenario
    except UserError as error:
        message = str(error)
    assert len(message.splitlines()) <= 1
    assert not message or any(f"{name}=" in message for name in environ)


def test_help_shows_every_flag_and_imports_nothing_heavy():
    code = (
        "import argparse, sys; from f110_fl.loading.arguments import add_arguments;"
        "p = argparse.ArgumentParser(); add_arguments(p); print(p.format_help());"
        "assert not {'torch', 'numba', 'numpy', 'flwr'} & set(sys.modules)"
    )
    run = [sys.executable, "-c", code]
    found = subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT)
    for setting in SETTINGS:
        assert setting.flag in found.stdout
    assert "(federated.clients; FED_TOTAL_CLIENTS)" in " ".join(found.stdout.split())


MISPLACED = {
    # mode: flags that ask for it, flags or a variable that do not go with it
    Mode.TRAIN: ([], ["--checkpoint=x"], ["--insecure"], ["--root-certificates=x"]),
    Mode.EVALUATE: (["--mode=eval"], ["--max-parallel=2"], ["--engine=deployment"]),
    Mode.STRESS: (["--mode=eval", "--stress=s"], ["--max-parallel=2"], ["--engine=deployment"]),
    Mode.GRID: (["--grid=g"], ["--scenario=s"], ["--mode=eval"], ["--resume=r"]),
    Mode.SUPERLINK: (["--superlink=s:1"], ["--grid=g"], ["--engine=deployment"]),
    Mode.FETCH: (["--superlink=s:1", "--fetch=r"], ["--scenario=s"], ["--episodes=3"]),
    Mode.RESUME: (["--resume=r"], ["--scenario=s"], ["--map=circle"], ["--set", "seed=1"]),
    Mode.RESUME_GRID: (["--resume=r"], ["--episodes=3"], ["--insecure"]),
    Mode.RESUME_SUPERLINK: (["--superlink=s:1", "--resume=r"], ["--repeat=2"], ["--scenario=s"]),
}


@pytest.mark.parametrize("mode", Mode)
def test_what_does_not_go_with_what_is_to_be_done(mode):
    of_grid = mode is Mode.RESUME_GRID
    own, *others = MISPLACED[mode]
    outside_overrides(arguments(*own), {}, of_grid=of_grid)
    for flags in others:
        message = complaint(outside_overrides, arguments(*own, *flags), {}, of_grid=of_grid)
        name = flags[0].partition("=")[0]
        (setting,) = (s for s in SETTINGS if s.flag == name)
        assert message.startswith(name)
        assert message.endswith(f": needs {setting.needs}" if setting.needs else f": {mode.value}")
    if mode is not Mode.TRAIN:
        message = complaint(
            outside_overrides, arguments(*own), {"FED_CLIENT_ID": "0"}, of_grid=of_grid
        )
        assert message == f"FED_CLIENT_ID='0': {mode.value}"


def test_only_length_budget_and_what_is_kept_of_a_run_may_change():
    environ = {"WANDB_MODE": "offline", "WANDB_NAME": ""}
    (override,) = outside_overrides(arguments("--resume=r", "--episodes=3"), environ)
    assert (override.path, override.value) == (("episodes",), 3)
    later = {"FED_KEEP_ROUNDS": "best", "FED_PRIVACY_BUDGET": "8"}
    found = outside_overrides(arguments("--resume=r"), later)
    assert [override.value for override in found] == ["best", 8.0]
    message = complaint(outside_overrides, arguments("--resume=r"), {"FED_TIMEOUT": "3"})
    assert message == "FED_TIMEOUT='3': cannot change in a resumed run; leave it out"
