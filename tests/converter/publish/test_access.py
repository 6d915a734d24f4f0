"""Who may see what is published."""

import json

import pytest

from tests.helpers.pushing import convert, converted


@pytest.mark.parametrize(
    ("about", "args", "private"),
    [
        ({"license": "mit"}, (), False),
        ({"license": "mit"}, ("--private",), True),
        ({"license": "llama3"}, (), True),
        ({"license": "llama3"}, ("--public",), False),
        ({"license": None}, (), True),
        ({"license": "mit", "gated": "manual", "readers": {"me"}}, (), True),
    ],
)
def test_who_sees_a_new_repository(hub, client, base, about, args, private):
    hub.publish("org/tiny", base, **about)
    ran = convert(client, *args)
    assert hub.repos["me/tiny-256"].private is private
    assert ("see that its terms let you publish this" in ran.stderr) is ("--public" in args)


def test_private_base_makes_a_private_repository(hub, client, base):
    hub.publish("me/mine", base, license="mit", private=True)
    client.run("convert", "me/mine", "--preset", "preset.yaml", "--push", "me/tiny-256")
    assert hub.repos["me/tiny-256"].private


def test_public_repository_needs_a_word_for_a_gated_base(hub, client, base):
    convert(client)
    hub.publish("org/tiny", base, license="mit", gated="auto", readers={"me"})
    (base / "generation_config.json").write_text("{}")
    ran = convert(client, "--set", "target_window=512", status=2)
    assert ran.error == (
        "me/tiny-256: is public, and the base is gated; if its terms let you publish this, say so by --public."
    )
    convert(client, "--set", "target_window=512", "--public")
    ran = convert(client, "--private", status=2)
    assert "is public; make it private in its settings" in ran.error


def test_terms_are_carried(hub, client, base):
    (base / "USE_POLICY.md").write_text("Be kind.")
    hub.publish("org/tiny", base, license="llama3")
    out = converted(client)
    (out / "LICENSE").unlink()
    for name in ("LICENSE", "USE_POLICY.md"):
        (out / name).unlink(missing_ok=True)
    provenance = json.loads((out / "ropext.json").read_text())
    for name in ("LICENSE", "USE_POLICY.md"):
        del provenance["files"][name]
    (out / "ropext.json").write_text(json.dumps(provenance))
    ran = client.run("push", out, "me/tiny-256")
    assert "note: the base's terms are added: LICENSE, USE_POLICY.md" in ran.stderr
    files = hub.repos["me/tiny-256"].head.files
    assert (files["LICENSE"].content, files["USE_POLICY.md"].content) == (b"Do as you like.\n", b"Be kind.")


def test_gated_base_without_access(hub, client, base):
    hub.publish("org/tiny", base, license="llama3", gated="manual")
    assert "access to this model is gated: ask for access at" in convert(client, status=1).error


@pytest.mark.parametrize(("token", "to"), [("hf_reader", "me/tiny-256"), ("hf_me", "org/tiny-256"), (None, "me/x")])
def test_token_that_may_not(hub, client, token, to):
    error = convert(client, to=to, token=token, status=1).error
    assert error.startswith(f"{to}: your token may not write there (")
    assert error.endswith("run `hf auth login` with a token that may, or name a repository of your own.")
    assert to not in hub.repos
