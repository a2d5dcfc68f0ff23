"""``gpufn account`` and ``gpufn keys --account`` against a fake installation."""

from __future__ import annotations

from fake_api import KEY, FakeApi, serving
from running import against


def test_an_account_is_made_with_an_admin_token() -> None:
    """The key asks for a token, which makes the account; bounds go along, no bound reads as any."""
    with serving(FakeApi(accounts=[])) as api:
        made = against(api, "account", "create", "acme", "--max-functions", "5", "--client", "ci")
        listed = against(api, "account", "list")
        changed = against(api, "account", "update", "acme", "--max-tasks", "3", "--json")
        nothing = against(api, "account", "update", "acme")
        gone = against(api, "account", "delete", "acme")

    assert (made.code, listed.code, changed.code, nothing.code, gone.code) == (0, 0, 0, 2, 0), made.err
    sent = api.sent("POST", "/accounts/acme")
    assert sent.headers["authorization"] == "Bearer a-token"
    assert sent.json == {"name": "acme", "maxFunctionsAllowed": 5, "adminClientId": "ci"}
    assert "gpufn keys create --account acme" in made.err
    assert "any" in listed.out
    assert api.sent("PATCH", "/accounts/acme").json == {"maxTasksAllowed": 3}
    assert gone.out == "deleted acme\n"


def test_a_token_is_printed_alone() -> None:
    """Standard output holds the token and nothing else."""
    with serving(FakeApi()) as api:
        ran = against(api, "account", "token")

    assert (ran.code, ran.out) == (0, "a-token\n")
    assert api.sent("POST", "/v1/admin/keys").headers["authorization"] == f"Bearer {KEY}"


def test_keys_of_another_account() -> None:
    """--account goes to that account's keys, with a token; without it nothing changes."""
    with serving(FakeApi()) as api:
        made = against(api, "keys", "create", "--account", "ac/me")
        listed = against(api, "keys", "list", "--account", "acme")
        own = against(api, "keys", "list")

    assert (made.code, listed.code, own.code) == (0, 0, 0), made.err
    assert made.out == "nvapi-secret\n"
    assert api.sent("POST", "/accounts/").path == "/v2/gpufn/accounts/ac%2Fme/keys"
