"""Settings from outside a scenario: variables, flags and Flower's run config, in one table.

The command line wins over the environment, the environment over the scenario, the
scenario over the defaults. An invalid value raises a ``UserError`` that names the variable or
flag, the value and what is allowed. So does an empty value, except in ``WANDB_*`` variables,
where it means unset, as in W&B itself, and for ``--wandb-prefix``; and so does a setting that
does not apply to what run.py is asked to do.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Final

from pydantic import ConfigDict, TypeAdapter, ValidationError

from f110_fl.config.keys import parse_key
from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError, did_you_mean
from f110_fl.loading import texts
from f110_fl.loading.fields import Field, allowed, field_at
from f110_fl.loading.overrides import Override, refuse_contradictions, set_overrides


class Mode(Enum):
    """What run.py is asked to do, and how it refuses a setting that does not apply to that."""

    TRAIN = "not in training; leave it out"
    EVALUATE = "not with --mode eval; leave it out"
    STRESS = "not with --stress; leave it out"
    GRID = "not with a grid; leave it out"
    SUPERLINK = "not with --superlink; leave it out"
    FETCH = "not with --fetch; leave it out"
    RESUME = "cannot change in a resumed run; leave it out"
    RESUME_GRID = "cannot change in a resumed grid; leave it out"
    RESUME_SUPERLINK = "cannot change in a run that a SuperLink resumes; leave it out"


NEW: Final = frozenset({Mode.TRAIN, Mode.EVALUATE, Mode.STRESS, Mode.GRID, Mode.SUPERLINK})
RESUMED: Final = frozenset({Mode.RESUME, Mode.RESUME_GRID, Mode.RESUME_SUPERLINK})
LINKED: Final = frozenset({Mode.SUPERLINK, Mode.RESUME_SUPERLINK, Mode.FETCH})
LOCAL: Final = frozenset({Mode.TRAIN, Mode.GRID, Mode.RESUME, Mode.RESUME_GRID})
EVALUATING: Final = frozenset({Mode.EVALUATE, Mode.STRESS})
TRAINING: Final = (NEW | RESUMED) - EVALUATING


@dataclass(frozen=True)
class Setting:
    """A setting from outside: its target, its spellings, and where it applies."""

    key: str = ""  # dotted key in the scenario; "": a setting of run.py itself
    variable: str = ""
    flag: str = ""
    run_config: str = ""  # key in [tool.flwr.app.config] of pyproject.toml
    modes: frozenset[Mode] = NEW
    flag_modes: frozenset[Mode] = frozenset(Mode)  # of these, the flag's: it is never left about
    needs: str = ""  # the flag without which it has no meaning
    read: Callable[[str], object] | None = None  # None: by the key's type
    form: str = ""  # the form of the text, where it differs from the key's type
    empty_ok: bool = False
    about: str = ""  # for --help; "": the key's description
    metavar: str = ""  # "": N or VALUE
    choices: tuple[str, ...] = ()  # the first is a flag's default
    switch: bool = False  # a flag without a value
    several: bool = False  # a flag with several values
    optional: bool = False  # a flag whose value may be left out: it is then ""

    @property
    def target(self) -> Field:
        """The key's field in the models."""
        return field_at(Scenario, parse_key(self.key) or ())

    def override(self, text: str, source: str) -> Override:
        """Return the override that a text asks for.

        Args:
            text: The user's text.
            source: The spelling that the user chose, for messages.

        Raises:
            UserError: If the text cannot be read or its value is out of range.
        """
        words = self.form or allowed(self.target.first)
        if not text.strip() and not self.empty_ok:
            raise UserError(f"{source}={text!r}: is empty; allowed: {words}")
        read = self.read or texts.READERS.get(self.target.first.annotation, str)
        try:
            value = read(text)
        except ValueError as error:
            raise UserError(f"{source}={text!r}: {error}; allowed: {words}") from None
        if not (callable(value) or _fits(self.target, value)):
            hint = did_you_mean(text, self.target.choices)
            raise UserError(f"{source}={text!r}: allowed: {words}{hint}")
        return Override(source, parse_key(self.key) or (), value, text, words)


def _fits(target: Field, value: object) -> bool:
    """Return whether a field accepts ``value``, regardless of other fields."""
    kind: Any = target.annotation
    for constraint in target.constraints:
        kind = Annotated[kind, constraint]
    try:
        adapter = TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False))
        adapter.validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


# fmt: off
SETTINGS: Final = (
    # Settings of run.py itself.
    Setting(flag="--scenario", metavar="FILE", modes=NEW - {Mode.GRID},
            about="what to train or evaluate: a scenario, YAML, or a run's config.json"),
    Setting(flag="--grid", metavar="FILE", modes=frozenset({Mode.GRID}),
            about="train many runs and compare them: YAML with base, matrix, runs"),
    Setting(flag="--resume", metavar="RUN_DIR", modes=RESUMED,
            about="continue a run exactly, perhaps with more --episodes, or continue a grid"),
    Setting(flag="--changed-files", switch=True, modes=RESUMED - LINKED, needs="--resume RUN_DIR",
            about="with --resume: go on although files that the run depends on changed"),
    Setting(flag="--mode", choices=("train", "eval"), modes=EVALUATING,
            about="train, or evaluate: drive evaluation.episodes episodes without exploration and "
            "report on them (default: train)"),
    Setting(flag="--checkpoint", metavar="FILE", modes=EVALUATING,
            needs="--mode eval", about="models to evaluate: best, state or global.safetensors "
            "(default: those in policies/ beside the scenario)"),
    Setting(flag="--replay", metavar="N",
            modes=frozenset({Mode.EVALUATE, Mode.TRAIN, Mode.RESUME}),
            about="with --mode eval: number of episodes in replay.html (default: 20); in training: "
            "number of rounds whose policies drive in report.html (default: 10, none in a run of "
            "less than half a minute); 0: none"),
    Setting(flag="--live", metavar="PORT", optional=True,
            modes=frozenset({Mode.TRAIN, Mode.RESUME}),
            about="serve the report on loopback while it trains; PORT: from 0 to 65535 (default: "
            "any free one)"),
    Setting(flag="--video", metavar="FILE", modes=frozenset({Mode.EVALUATE}), needs="--mode eval",
            about="write an animation of an episode: .webp, .gif or .mp4, which needs "
            "f110-fl[video]"),
    Setting(flag="--still", metavar="FILE", modes=frozenset({Mode.EVALUATE}), needs="--mode eval",
            about="write a picture of an episode for papers: .png"),
    Setting(flag="--video-episode", metavar="N", modes=frozenset({Mode.EVALUATE}),
            needs="--mode eval",
            about="which episode --video and --still show, from 0 (default: the first success, or "
            "the first)"),
    Setting(flag="--until", metavar="HALF", modes=frozenset({Mode.EVALUATE}), needs="--mode eval",
            about="evaluate only until the 95 %% interval of the rate of success (of finishing, "
            "where nothing learns) is within plus or minus this, at most evaluation.episodes"),
    Setting(flag="--stress", metavar="FILE", modes=frozenset({Mode.STRESS}), needs="--mode eval",
            about="evaluate over grids of friction, latency, noise and the like, and find where "
            "the policy breaks: YAML with axes, matrix; the same command goes on where it ended"),
    Setting(flag="--wandb", switch=True, modes=frozenset({Mode.EVALUATE}), needs="--mode eval",
            about="record the evaluation and its replay with W&B, which training does by itself"),
    Setting(flag="--tensorboard", switch=True, modes=LOCAL,
            about="also write event files for TensorBoard into the run's directory"),
    Setting(flag="--max-parallel", metavar="N", modes=LOCAL,
            about="number of clients, replicas or runs of a grid at work at the same time, from 1 "
            "(default: the number of cores)"),
    Setting(flag="--engine", choices=("simulation", "deployment"), modes=LOCAL,
            about="how clients run: all in one simulation, or each as a process of its own that "
            "connects with TLS (default: simulation)"),
    Setting(flag="--backend", choices=("workers", "ray"),
            modes=frozenset({Mode.TRAIN, Mode.RESUME}),
            about="what a simulation runs clients in: processes of this machine, or Flower's "
            "simulation runtime on Ray, on the cluster at RAY_ADDRESS or else on this machine "
            "(default: workers)"),
    Setting(flag="--superlink", metavar="HOST:PORT", modes=LINKED,
            about="run on the clients connected to this SuperLink, where the files stay"),
    Setting(flag="--root-certificates", metavar="FILE", modes=LINKED, needs="--superlink HOST:PORT",
            about="certificate of the SuperLink's authority, PEM"),
    Setting(flag="--operator", metavar="FILE", modes=LINKED, needs="--superlink HOST:PORT",
            about="token by which a closed SuperLink knows who starts runs"),
    Setting(flag="--fetch", metavar="RUN", modes=frozenset({Mode.FETCH}),
            needs="--superlink HOST:PORT",
            about="fetch a run's files from the closed SuperLink: RUN is its number or its "
            "directory there, as server.status shows them"),
    Setting(flag="--out", metavar="DIR", modes=frozenset({Mode.FETCH}), needs="--fetch RUN",
            about="where --fetch puts them (default: a directory of the run's name, here)"),
    Setting(flag="--insecure", switch=True, modes=LINKED, needs="--superlink HOST:PORT",
            about="connect to the SuperLink without TLS; loopback only"),
    Setting(variable="FED_CLIENT_ID", modes=frozenset({Mode.TRAIN}),
            about="this process is one client, which was started by hand: its index, from 0 to "
            "clients - 1"),
    Setting(variable="FED_LOG_SIZE", modes=frozenset(Mode),
            about="size at which a log in logs/ becomes NAME.log.1, of which 3 are kept, in MB "
            "(default: 10)"),
    Setting(variable="WANDB_MODE", choices=("online", "offline", "disabled", "shared"),
            modes=NEW | RESUMED,
            about="how W&B records: online, offline, disabled or shared"),
    # Keys of the scenario: key, variable, flag, key of the run config.
    Setting("federated.clients", "FED_TOTAL_CLIENTS", "--repeat", flag_modes=TRAINING,
            about="number of clients, or of replicas if the scenario is not federated"),
    Setting("episodes", "", "--episodes", "episodes",
            modes=NEW | {Mode.RESUME, Mode.RESUME_SUPERLINK}, flag_modes=TRAINING),
    Setting("evaluation.episodes", "", "--eval-episodes", "eval-episodes",
            about="episodes of each evaluation, none with 0"),
    Setting("env.track", "", "--map", read=texts.track, form=texts.TRACKS, metavar="NAME_OR_FILE"),
    Setting("seed", "RUN_SEED", "--seed", "seed", about="seed of all randomness"),
    Setting("federated.enabled", "FED_ENABLED",
            about="whether clients are averaged; otherwise they are independent replicas"),
    Setting("federated.root", "FED_ROOT", "", "fed-root"),
    Setting("federated.round_interval", "FED_ROUND_INTERVAL", "", "round-interval",
            about="episodes that each client trains between two averages"),
    Setting("federated.optimizer_strategy", "FED_OPTIMIZER_STRATEGY", "", "optimizer-strategy",
            about="what becomes of the optimizers' moments when models are averaged"),
    Setting("federated.checkpoint_after_sync", "FED_CHECKPOINT_AFTER_SYNC", "",
            "checkpoint-after-sync"),
    Setting("federated.keep_rounds", "FED_KEEP_ROUNDS", modes=NEW | {Mode.RESUME},
            read=texts.kept, form="all, best, or a number of rounds from 1",
            about="rounds whose tensors stay on the disk"),
    Setting("federated.privacy.budget", "FED_PRIVACY_BUDGET", modes=NEW | {Mode.RESUME},
            about="largest epsilon that a client's privacy may cost in all rounds"),
    Setting("federated.timeout", "FED_TIMEOUT", "", "timeout",
            about="longest wait for the replies of a round"),
    Setting("federated.agents", "FED_AGENTS", "", "agents",
            read=texts.names, form="learners' names, separated by commas",
            about="learners that are averaged"),
    Setting("federated.weighting", "FED_AVG_MODE", "", "weighting", read=texts.weighting,
            form="equal, env_steps, or weights, which FED_WEIGHTS or the scenario lists",
            about="what clients count in averages"),
    Setting("federated.weighting", "FED_WEIGHTS", "", "weights", read=texts.weights,
            form="numbers above 0, as id:weight,... or weight,...",
            about="what each client counts in averages"),
    Setting("collect.num_envs", "COLLECT_WORKERS", "--collect-workers", flag_modes=TRAINING,
            about="number of environments that a client steps together"),
    Setting("collect.prefetch", "COLLECT_PREFETCH", "--collect-prefetch", flag_modes=TRAINING,
            about="largest number of episodes under way in a client"),
    Setting("collect.seed_stride", "COLLECT_SEED_STRIDE", "--collect-seed-stride",
            flag_modes=TRAINING),
    Setting("wandb.group_template", "WANDB_RUN_GROUP", read=texts.literal,
            about="W&B group, as it stands"),
    Setting("wandb.name_template", "WANDB_NAME", read=texts.literal,
            about="name of the W&B run, as it stands"),
    Setting("wandb.group_template", "", "--wandb-group-template", metavar="TEXT"),
    Setting("wandb.name_template", "", "--wandb-name-template", metavar="TEXT",
            about="name of the W&B run; fills in what the group does, and {role} (server, "
            "client_00)"),
    Setting("wandb.prefix", "", "--wandb-prefix", "wandb-prefix", empty_ok=True, metavar="TEXT"),
    # Over all of the above.
    Setting(flag="--set", several=True, metavar="KEY=VALUE",
            about="any setting of the scenario, by dotted key with its value in YAML: "
            "learners.car_0.discount=0.98"),
    Setting("seed", "", "--auto-seed", read=lambda _: texts.counted_seed, switch=True,
            empty_ok=True, flag_modes=TRAINING,
            about="give every client a seed of its own, by its index"),
    Setting("seed.base", "", "--seed-base", needs="--auto-seed",
            about="seed of client 0, with --auto-seed"),
    Setting("seed.step", "", "--seed-step", needs="--auto-seed",
            about="step from one client's seed to the next, with --auto-seed"),
)
# fmt: on

# The variables that set a scenario's keys.
VARIABLES: Final = tuple(s.variable for s in SETTINGS if s.variable and s.key)


def setting_of(key: str) -> Setting:
    """Return the first setting of a key of the scenario."""
    return next(setting for setting in SETTINGS if setting.key == key)


def outside_overrides(
    arguments: argparse.Namespace, environ: Mapping[str, str], *, of_grid: bool = False
) -> list[Override]:
    """Return the settings of variables, then those of flags, which win over them.

    With ``of_grid``, ``--resume`` names the directory of a grid.

    Raises:
        UserError: If a value is invalid, two settings contradict each other, or one does not
            apply to what run.py is asked to do.
    """
    mode = _mode(arguments, of_grid=of_grid)
    for setting in SETTINGS:
        value, text = _value(setting, arguments), environ.get(setting.variable)
        spellings = (
            (setting.flag, value, setting.modes & setting.flag_modes),
            (setting.variable, text, setting.modes),
        )
        for name, given, modes in spellings:
            if mode not in modes and given not in (None, False, "", *setting.choices[:1]):
                shown = name if given is True else f"{name}={given!r}"
                needed = setting.needs if mode is not Mode.STRESS else ""
                reason = f"needs {needed}" if needed else mode.value
                raise UserError(f"{shown}: {reason}")
    return [*environment_overrides(environ), *command_line_overrides(arguments)]


def idle_variables(environ: Mapping[str, str]) -> list[str]:
    """Return a line for each ``FED_*`` variable that is set and does nothing in an evaluation.

    They are checked all the same, and not refused, since they may be set for other runs, too.
    """
    used = ("federated.root",)
    return [
        f"{setting.variable}={environ[setting.variable]!r}: without effect with --mode eval"
        for setting in SETTINGS
        if setting.variable.startswith("FED_")
        and setting.variable in environ
        and setting.key not in used
    ]


def _mode(arguments: argparse.Namespace, *, of_grid: bool) -> Mode:
    resumed = arguments.resume is not None
    if arguments.fetch is not None:
        return Mode.FETCH
    if arguments.superlink is not None:
        return Mode.RESUME_SUPERLINK if resumed else Mode.SUPERLINK
    if arguments.grid is not None:
        return Mode.GRID
    if resumed:
        return Mode.RESUME_GRID if of_grid else Mode.RESUME
    if arguments.mode == "eval":
        return Mode.EVALUATE if arguments.stress is None else Mode.STRESS
    return Mode.TRAIN


def _value(setting: Setting, arguments: argparse.Namespace) -> Any:
    """Return the parsed value of a setting's flag; None if there is none."""
    return getattr(arguments, setting.flag[2:].replace("-", "_"), None) if setting.flag else None


def environment_overrides(environ: Mapping[str, str]) -> list[Override]:
    """Return the settings of environment variables, in the order of the table.

    ``WANDB_RUN_GROUP`` and ``WANDB_NAME`` are taken literally, without ``{...}`` filled in.
    ``WANDB_MODE`` is only checked: W&B reads it itself.

    Raises:
        UserError: If a value is invalid, two settings contradict each other, or the name of a
            ``FED_*`` variable nearly matches a known one.
    """
    known = [setting.variable for setting in SETTINGS if setting.variable]
    for name in sorted(name for name in environ if name.startswith("FED_")):
        hint = did_you_mean(name, known, cutoff=0.8)
        if hint and name not in known:  # otherwise, it belongs to another program
            raise UserError(f"{name}={environ[name]!r}: unknown variable{hint}")
    found = []
    for setting in SETTINGS:
        name, text = setting.variable, environ.get(setting.variable)
        if text is None or (not text and name.startswith("WANDB_")):
            continue
        if setting.key:
            found.append(setting.override(text, name))
        elif setting.choices and text not in setting.choices:
            hint = did_you_mean(text, setting.choices)
            raise UserError(f"{name}={text!r}: allowed: {', '.join(setting.choices)}{hint}")
    refuse_contradictions(found)
    return found


def command_line_overrides(arguments: argparse.Namespace) -> list[Override]:
    """Return the settings of flags.

    Raises:
        UserError: If a value is invalid, or two settings contradict each other.
    """
    found: list[Override] = []
    for setting in SETTINGS:
        value = _value(setting, arguments)
        if setting.flag == "--set":
            found += set_overrides(value or (), found)
        elif setting.key and value not in (None, False):
            if setting.needs == "--auto-seed" and not arguments.auto_seed:
                raise UserError(f"{setting.flag}={value!r}: needs {setting.needs}")
            found.append(setting.override("" if value is True else value, setting.flag))
    return found


def run_config_overrides(run_config: Mapping[str, Any]) -> list[Override]:
    """Return the settings of ``flwr run --run-config``; an empty value leaves the scenario's.

    Raises:
        UserError: If a value is invalid, or two settings contradict each other.
    """
    found = [
        setting.override(str(run_config[setting.run_config]), f"--run-config {setting.run_config}")
        for setting in SETTINGS
        if str(run_config.get(setting.run_config, "")) != ""
    ]
    refuse_contradictions(found)
    return found


def client_id(environ: Mapping[str, str], total: int) -> int | None:
    """Return this client's index from ``FED_CLIENT_ID``, None if it is not set.

    Raises:
        UserError: If it is not a whole number from 0 to ``total - 1``.
    """
    text = environ.get("FED_CLIENT_ID")
    if text is None:
        return None
    return texts.bounded("FED_CLIENT_ID", text, 0, total - 1, f", as there are {total} clients")
