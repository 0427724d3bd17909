"""Credentials for the loopback service, as `credential="appinsights_credential:make"` names them."""

from azure.core.credentials import AccessToken

TOKEN = "a-token-of-the-tests"
OF_OPENCENSUS = ("ignore:.*utcnow.*:DeprecationWarning", "ignore:.*getdefaultlocale.*:DeprecationWarning")


class Credential:
    """Always has the same token, and remembers what it was asked for."""

    scopes: list = []  # noqa: RUF012 - of all of them, in the order of the calls

    def get_token(self, *scopes, **_options):
        self.scopes.extend(scopes)
        return AccessToken(TOKEN, 4_000_000_000)


def make():
    return Credential()


class Failing:
    def get_token(self, *_, **__):
        raise RuntimeError("the vault is down")


def failing():
    return Failing()
