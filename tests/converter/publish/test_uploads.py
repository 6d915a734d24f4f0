"""What cannot be copied within the Hub is uploaded."""

import os

import pytest

from tests.helpers.pushing import WEIGHTS, convert, converted, copying


def falls_back(hub, client, expected, command, **how):
    ran = command(**how)
    assert expected in ran.stderr
    assert hub.repos["me/tiny-256"].head.files["model.safetensors"].size == WEIGHTS
    assert len(hub.repos["me/tiny-256"].history) == 2
    assert "/lfs/me/tiny-256/" in " ".join(hub.calls)
    return ran


@copying
@pytest.mark.parametrize("refused", [400, 403, 404, "no room"])
@pytest.mark.parametrize("by_folder", [True, False])
def test_server_that_does_not_copy(hub, client, refused, by_folder):
    hub.copies_refused = refused
    if by_folder:
        converted(client)
        client.forget()

    def command(**how):
        return client.run("push", "out", "me/tiny-256", **how) if by_folder else convert(client, **how)

    size = WEIGHTS + 600
    ran = falls_back(hub, client, f"uploading {size:,} bytes instead", command)
    assert "note: the Hub does not copy from org/tiny (" in ran.stderr
    assert ("no room" if refused == "no room" else "Copies are not possible") in ran.stderr
    assert "0 B copied within the Hub" in ran.stdout
    assert (client.cached > WEIGHTS) is not by_folder


@copying
def test_other_storage_region(hub, client):
    hub.repos["org/tiny"].region = "eu"
    falls_back(hub, client, "different storage regions", lambda **how: convert(client, **how))


@copying
def test_file_that_is_not_on_xet(hub, client):
    hub.repos["org/tiny"].xet = False
    falls_back(hub, client, "the Hub has not moved it to Xet storage", lambda **how: convert(client, **how))
    assert not any("duplicate" in call for call in hub.calls)


def test_client_that_cannot_copy(hub, client):
    why = "huggingface_hub before 1.17 copies nothing between repositories"
    falls_back(hub, client, why, lambda **how: convert(client, **how), without=("can_copy",))


@copying
def test_weights_that_were_changed(hub, client):
    out = converted(client, "--link", "copy")
    with (out / "model.safetensors").open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x7f")
    falls_back(hub, client, "differs from the base's", lambda **how: client.run("push", out, "me/tiny-256", **how))
    assert "POST /api/models/org/tiny/lfs-files/duplicate" in hub.calls  # the tokenizer


def test_base_from_a_folder(hub, client, base):
    client.run("convert", base, "--preset", "preset.yaml", "-o", "out", "-q")
    why = "the base is a folder that is no Hub snapshot"
    falls_back(hub, client, why, lambda **how: client.run("push", "out", "me/tiny-256", **how))
    assert hub.repos["me/tiny-256"].private


def test_base_that_is_gone(hub, client):
    converted(client)
    del hub.repos["org/tiny"]
    why = "the Hub shows no org/tiny at"
    falls_back(hub, client, why, lambda **how: client.run("push", "out", "me/tiny-256", **how))
