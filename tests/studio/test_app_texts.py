"""The page says every system, verb and option in Chinese; in English they say themselves what they are."""

import json
import re

import pytest

from inkwash.studio.app import PAGE
from inkwash.systems import systems
from inkwash.systems.base import options

TEXTS = {name: json.loads((PAGE / f"{name}.json").read_text(encoding="utf-8")) for name in ("en", "zh")}
ZH = TEXTS["zh"]
# the toy of other tests is none of ours
SYSTEMS = {name: system for name, system in systems().items() if system.load.startswith("inkwash.")}
HAN = re.compile("[一-鿿]")


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_its_verbs_and_their_options_are_said_in_chinese(name):
    missing = [key for key in (f"system.{name}",) if key not in ZH]
    for word, verb in SYSTEMS[name].verbs.items():
        missing += [key for key in (f"verb.{word}", f"help.{name}/{word}") if key not in ZH]
        for option in options(verb.request):
            for kind in ("option", "help"):
                if not {f"{kind}.{option}", f"{kind}.{name}/{option}"} & ZH.keys():
                    missing.append(f"{kind}.{option} ({word})")
    assert missing == []


def test_texts_of_one_system_are_of_something_that_it_has():
    for language, texts in TEXTS.items():
        for key in filter(re.compile(r"(option|help)\.\w+/").match, texts):
            name, word = key.partition(".")[2].split("/")
            verbs = SYSTEMS[name].verbs
            known = {*verbs, *(option for verb in verbs.values() for option in options(verb.request))}
            assert word in known, (language, key)


def test_help_in_chinese_is_chinese():
    assert [key for key, text in ZH.items() if key.startswith("help.") and not HAN.search(text)] == []


@pytest.mark.parametrize("model", ["perov", "backbone", "emoji", "icons", "e2e", "exchange"])
def test_shipped_models_say_in_chinese_what_they_make(model):
    assert HAN.search(ZH[f"help.model.{model}"])
