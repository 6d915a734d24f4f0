"""How a command refuses a file."""


def refused(run, message="", status=1):
    """Hold a run to one message and no output."""
    assert run.exit_code == status, run.output
    assert run.stderr.startswith("error: ")
    assert message in run.stderr
    assert "a fault of ropext" not in run.stderr
    assert len(run.stderr) < 5_000
