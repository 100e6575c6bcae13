import random

import yaml
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from small import REPOSITORY

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.loading.scenarios import load_scenario

REAL = REPOSITORY / "scenarios" / "convoy_lock_td3.yaml"


def nodes(value, path=()):
    """Yield the path of every part of plain data."""
    yield path
    items = enumerate(value) if isinstance(value, list) else ()
    for key, inner in value.items() if isinstance(value, dict) else items:
        yield from nodes(inner, (*path, key))


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([]),
    st.just({}), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.lists(st.integers(), max_size=3), st.sampled_from(["map", "circle", "line2", "car_1"]),
)  # fmt: skip


def survives(file, text):
    file.write_bytes(text)
    message = f"{file}:"
    try:
        assert isinstance(load_scenario(file), Scenario)
    except UserError as error:
        message = str(error)
    assert len(message.splitlines()) == 1
    assert message.startswith(f"{file}:")


@examples(150)
@given(st.data())
def test_any_change_of_a_value_loads_or_is_one_line(tmp_path_factory, data):
    tree = yaml.safe_load(REAL.read_text())
    for _ in range(data.draw(st.integers(1, 3))):
        *above, last = data.draw(st.sampled_from([p for p in nodes(tree) if p]))
        target = tree
        for key in above:
            target = target[key]
        match data.draw(st.sampled_from(["set", "drop", "rename"])):
            case "set":
                target[last] = data.draw(ODD)
            case "drop":
                del target[last]
            case "rename" if isinstance(target, dict):
                target[data.draw(st.text(max_size=6))] = target.pop(last)
        if not tree:
            break
    file = tmp_path_factory.getbasetemp() / "values.yaml"
    survives(file, yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "replace"))


@examples(150)
@given(st.integers(0, 2**32), st.integers(1, 4))
def test_any_change_of_the_text_loads_or_is_one_line(tmp_path_factory, seed, changes):
    rng = random.Random(seed)  # noqa: S311
    text = bytearray(REAL.read_bytes())
    for _ in range(changes):
        at, end = rng.randrange(len(text)), rng.randrange(len(text))
        odd = rng.choice(b"{ } [ ] : - & * ! | > ' % @ ` # , ?".split())
        piece = rng.choice([b"", bytes([rng.randrange(256)]), odd, b"\n", b"\t", b'"'])
        text[at : at + rng.randrange(3)] = piece if rng.random() < 0.8 else text[end : end + 20]
    survives(tmp_path_factory.getbasetemp() / "text.yaml", bytes(text))
