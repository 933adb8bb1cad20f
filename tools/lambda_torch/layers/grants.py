"""Who may use a published layer version, beside the account that it is in."""

import re
from typing import TYPE_CHECKING, NamedTuple

from lambda_torch.errors import LayerError

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

_ACCOUNT = re.compile(r"\d{12}")
# "AWS Organizations API reference", Organization: its ID.
_ORGANIZATION = re.compile(r"o-[a-z0-9]{10,32}")


class Grant(NamedTuple):
    """A permission to use a layer version.

    Attributes:
        statement: its id in the policy of the version. Equal grants have equal ids, so that each is given once.
        principal: an account id, or * for every account.
        organization: the organization whose accounts are meant; empty for no such limit.
    """

    statement: str
    principal: str
    organization: str = ""

    def __str__(self) -> str:
        if self.organization:
            return f"organization {self.organization}"
        return "everyone" if self.principal == "*" else f"account {self.principal}"


def grants_of(public: bool, organizations: tuple[str, ...], accounts: tuple[str, ...]) -> tuple[Grant, ...]:
    """The grants that the options of the command stand for.

    Raises:
        LayerError: what should be an id is none.
    """
    for account in accounts:
        if not _ACCOUNT.fullmatch(account):
            raise LayerError(
                f"{account!r} is not the id of an AWS account.\nNext: give its 12 digits, without hyphens."
            )
    for organization in organizations:
        if not _ORGANIZATION.fullmatch(organization):
            raise LayerError(
                f"{organization!r} is not the id of an organization.\n"
                "Next: give an id such as o-a1b2c3d4e5 (aws organizations describe-organization)."
            )
    return (
        *((Grant("public", "*"),) if public else ()),
        *(Grant(f"organization-{each}", "*", each) for each in dict.fromkeys(organizations)),
        *(Grant(f"account-{each}", each) for each in dict.fromkeys(accounts)),
    )


def give(client: "LambdaClient", name: str, version: int, grants: tuple[Grant, ...]) -> None:
    """Give the grants to a layer version. A grant that the version has already stays as it is."""
    for grant in grants:
        try:
            if grant.organization:
                client.add_layer_version_permission(
                    LayerName=name,
                    VersionNumber=version,
                    StatementId=grant.statement,
                    Action="lambda:GetLayerVersion",
                    Principal=grant.principal,
                    OrganizationId=grant.organization,
                )
            else:
                client.add_layer_version_permission(
                    LayerName=name,
                    VersionNumber=version,
                    StatementId=grant.statement,
                    Action="lambda:GetLayerVersion",
                    Principal=grant.principal,
                )
        except client.exceptions.ResourceConflictException:
            continue
