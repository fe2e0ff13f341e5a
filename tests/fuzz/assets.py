"""Assets of an exported model, changed in one place: read, or refused in one sentence."""

import json
import random
import shutil

from mmnet.checks import InputError
from mmnet.serving import decision, exported, profile
from tests.fuzz.outcomes import REFUSED, WELL, check_sentence

VALUES = [None, "x", -1, 1e308, [], {}, [[]], {"a": 1}, True]
READERS = {
    exported.AboutShareRates.FILE: exported.fitted,
    f"assets.extra/{decision.FILE}": lambda place: exported.document(
        place, decision.FILE, decision.Decisions
    ),
    f"assets.extra/{profile.FILE}": lambda place: exported.document(
        place, profile.FILE, profile.Profile
    ),
}


def ready(world):
    """The directory of a version, and the text of each of its assets."""
    version = world / "run" / "export" / "1"
    return {name: (version / name).read_text(encoding="utf-8") for name in READERS}


def check(seed, place, texts):
    """Reads one disturbed asset."""
    draws = random.Random(seed)
    name = draws.choice(sorted(texts))
    path = place / "1" / name
    path.parent.mkdir(parents=True)
    (place / "1" / "saved_model.pb").touch()
    path.write_text(disturbed(texts[name], draws), encoding="utf-8")
    try:
        READERS[name](place / "1")
    except InputError as error:
        check_sentence(str(error))
        return REFUSED
    finally:
        shutil.rmtree(place)
    return WELL


def leaves(value, path=()):
    """Every place in a JSON document."""
    yield path
    if isinstance(value, dict | list):
        inside = value.items() if isinstance(value, dict) else enumerate(value[:3])
        for key, one in inside:
            yield from leaves(one, (*path, key))


def disturbed(text, draws):
    """A JSON document with one place changed or gone, now and then cut as well."""
    document = json.loads(text)
    *path, last = draws.choice([place for place in leaves(document) if place])
    inside = document
    for key in path:
        inside = inside[key]
    if draws.random() < 0.2 and isinstance(inside, dict):
        del inside[last]
    else:
        inside[last] = draws.choice(VALUES)
    changed = json.dumps(document)
    return changed[: draws.randrange(len(changed))] if draws.random() < 0.2 else changed
