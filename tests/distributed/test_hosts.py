"""Processes that compare their settings."""

import json

import numpy as np
import pytest

from jaxvsr import main
from jaxvsr.distributed import hosts
from jaxvsr.errors import InputError


def test_what_differs_is_named_with_who_has_what(monkeypatch):
    settings = [{"a": 1}, {"a": 2, "long": "x" * 99}, {"a": 1}, {"a": 1}, {"a": 1}, {"a": 1}]
    texts = [np.frombuffer(json.dumps(each).encode(), np.uint8) for each in settings]

    def gather(x):  # as if the others had called it, too
        if x.ndim == 0:
            return np.array([len(text) for text in texts])
        return np.stack([np.pad(text, (0, len(x) - len(text))) for text in texts])

    monkeypatch.setattr(hosts.multihost_utils, "process_allgather", gather)
    message = r"  a: 1 in process 0, 2, 3, 4 and others; 2 in process 1\n  long: None in .*'x+' in"
    for each in settings[:2]:
        with pytest.raises(InputError, match=message):
            hosts.check_same(each)
    settings[1] = settings[0]
    texts = [texts[0]] * 6
    hosts.check_same(settings[0])


def test_hosts_wait_for_each_other_less_than_a_minute():

    assert main.command("train").flags["connect_timeout"].default <= 50


OFF = {"distributed": False, "coordinator": None, "processes": None, "process": None}


def test_one_process_needs_no_others():
    with hosts.connected(OFF | {"connect_timeout": 1}, {}):
        pass
    with pytest.raises(ZeroDivisionError), hosts.connected(OFF, {}):
        raise ZeroDivisionError  # not turned into the end of the process


@pytest.mark.parametrize("given", [{"coordinator": "a:1"}, {"process": 0}, {"processes": 2}])
def test_the_flags_of_several_processes_are_given_together(given):
    message = "--coordinator, --processes and --process must be given together"
    with pytest.raises(InputError, match=message), hosts.connected(OFF | given, {}):
        pass


def test_an_address_has_a_port():
    with pytest.raises(InputError, match="--coordinator=host must be host:port"):
        hosts.connect("host", 2, 0, timeout=1)


def test_the_same_settings_of_one_process_are_the_same():
    assert hosts.check_same({"a": 1, "b": [1, 2]}) is None  # raises if they differ
