"""What is in deploy/ says what the program understands."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer
import yaml

from inkwash.cli.studio import studio_app

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
UNITS = sorted(DEPLOY.glob("systemd/*.service"))


def check(arguments):
    """Raises what the command line says of an option or a value that it does not know. Nothing is run."""
    group = typer.main.get_command(studio_app)
    with group.make_context("studio", list(arguments), resilient_parsing=False) as context:
        if context._protected_args:
            name, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])
            command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("service", ["server", "worker"])
def test_commands_of_services_are_the_programs(service):
    check(one.replace("${STUDIO_NAME:?}", "studio.example.org") for one in COMPOSE["services"][service]["command"])


@pytest.mark.parametrize("unit", UNITS, ids=lambda file: file.name)
def test_commands_of_units_are_the_programs(unit, monkeypatch):
    monkeypatch.setattr("inkwash.cli.studio_worker.check_device", lambda name: None)
    (command,) = re.findall(r"^ExecStart=\S+/inkwash studio (.*)$", unit.read_text(), re.M)
    check(shlex.split(command.replace("%i", "0")))


def test_an_option_that_is_none_is_found():
    with pytest.raises(Exception, match="--divice"):
        check(["worker", "--divice", "cpu"])


def test_every_variable_of_the_composition_is_in_the_example():
    text = (DEPLOY / "compose.yaml").read_text()
    needed = set(re.findall(r"\$\{(\w+):\?\}", text))
    assert needed == {line.partition("=")[0] for line in (DEPLOY / "env.example").read_text().split()}
    for service in COMPOSE["services"].values():
        for name in service.get("depends_on", ()):
            assert name in COMPOSE["services"]


def test_units_are_such(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    program = tmp_path / "inkwash"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/inkwash/bin/inkwash", str(program)))
    files = [str(tmp_path / unit.name) for unit in UNITS]
    run = subprocess.run(["systemd-analyze", "verify", *files], capture_output=True, text=True)
    assert [
        line for line in (run.stdout + run.stderr).splitlines() if str(tmp_path) in line or "inkwash" in line
    ] == []
