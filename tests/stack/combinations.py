"""Combinations of the stack's parameters: every pair of values that goes together is in at least one of them.

A parameter that says nothing without another one, such as CertificateArn, follows that one.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator

from allpairspy import AllPairs

from stack.kit import refusals, template

REGION_AND_ACCOUNT = "us-east-1:123456789012"
WEB_ACL = f"arn:aws:wafv2:{REGION_AND_ACCOUNT}:regional/webacl/mine/0a1b2c3d-1111-2222-3333-444455556666"
CERTIFICATE = f"arn:aws:acm:{REGION_AND_ACCOUNT}:certificate/0a1b2c3d-1111-2222-3333-444455556666"
KMS_KEY = f"arn:aws:kms:{REGION_AND_ACCOUNT}:key/0a1b2c3d-1111-2222-3333-444455556666"
BOUNDARY = "arn:aws:iam::123456789012:policy/teams/boundary"
USER_POOL = f"arn:aws:cognito-idp:{REGION_AND_ACCOUNT}:userpool/us-east-1_AbCdEf123"
ISSUER = "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_AbCdEf123"
WRITER = "arn:aws:iam::210987654321:role/teams/promoter"
SIGNER = f"ed25519:{'A' * 43}="

# Values of parameters of free text, and more values than the template's limits. Lists of values are in the template.
TEXTS = {
    "WarmUpSchedule": ("rate(5 minutes)", "cron(0/5 7-18 ? * MON-FRI *)"),
    "ReleaseChannel": ("staging",),
    "JwtIssuer": (ISSUER,),
    "JwtAudience": ("app", "app , another"),
    "UserPoolArn": (USER_POOL,),
    "VpcEndpointIds": ("vpce-0123456789abcdef0", "vpce-0123456789abcdef0, vpce-01234567"),
    "ReservedConcurrency": ("5",),
    "StageName": ("v1",),
    "CorsOrigins": ("https://a.example", "https://a.example , https://b.example"),
    "WebAclArn": (WEB_ACL,),
    "DomainName": ("models.example.com",),
    "CertificateArn": (CERTIFICATE,),
    "BasePath": ("names/v1",),
    "HostedZoneId": ("Z0123456789ABC",),
    "SubnetIds": ("subnet-0123456789abcdef0", "subnet-0123456789abcdef0, subnet-01234567"),
    "SecurityGroupIds": ("sg-0123456789abcdef0",),
    "VpcId": ("vpc-0123456789abcdef0",),
    "RouteTableIds": ("rtb-0123456789abcdef0", "rtb-0123456789abcdef0 , rtb-01234567"),
    "KmsKeyArn": (KMS_KEY,),
    "PermissionsBoundaryArn": (BOUNDARY,),
    "RolePath": ("/teams/models/",),
    "AlarmEmail": ("team@example.com",),
    "ReleaseSigner": (SIGNER,),
    "ReleaseWriters": (WRITER, f"{WRITER}, {WRITER}-of-others"),
}


# Parameters that say nothing alone -> the one that asks for them, and its value (None: any but the default).
FOLLOWS = {
    "JwtIssuer": ("ApiAccess", "jwt"),
    "JwtAudience": ("ApiAccess", "jwt"),
    "UserPoolArn": ("ApiAccess", "cognito"),
    "VpcEndpointIds": ("ApiType", "private"),
    "CertificateArn": ("DomainName", None),
    "SecurityGroupIds": ("SubnetIds", None),
    "VpcId": ("RouteTableIds", None),
}
# The same, but they may also keep their defaults.
MAY_FOLLOW = {
    "BasePath": ("DomainName", None),
    "HostedZoneId": ("DomainName", None),
    "RouteTableIds": ("SubnetIds", None),
}


@functools.cache
def values() -> dict[str, tuple[str, ...]]:
    """Parameter to its values, of those that do not follow another one.

    The default is the first. A number also has its limits. A list of more than five values has its first and its last.
    """
    found = {}
    for name, rule in template()["Parameters"].items():
        listed = rule.get("AllowedValues", ())
        if rule["Type"] == "Number" and not listed:
            listed = [rule[limit] for limit in ("MinValue", "MaxValue") if limit in rule]
        elif len(listed) > 5:
            listed = [listed[0], listed[-1]]
        if name not in FOLLOWS | MAY_FOLLOW:
            found[name] = tuple(dict.fromkeys(map(str, (rule["Default"], *listed, *TEXTS.get(name, ())))))
    return found


@functools.cache
def combinations() -> tuple[dict[str, str], ...]:
    """The combinations: parameter to value, whole."""
    names = list(values())
    pairs = AllPairs(list(values().values()), filter_func=lambda row: not _refused(zip(names, row, strict=False)))
    rows = [dict(zip(names, row, strict=True)) for row in pairs]
    # The library leaves out pairs where it cannot complete the rest of a row. As many as fit go together into a copy of a row.
    while missing := list(missing_pairs(rows)):
        chosen: dict[str, str] = {}
        best = rows[0]
        for pair in missing:
            if all(chosen.get(name, value) == value for name, value in pair):
                more = chosen | dict(pair)
                fitting = next((each | more for each in rows if not _refused((each | more).items())), None)
                if fitting is not None:
                    chosen, best = more, fitting
        if not chosen:
            break
        rows.append(best)
    return tuple(_completed(number, row) for number, row in enumerate(rows))


def missing_pairs(rows: Iterable[dict[str, str]]) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """Pairs of values that the rules do not refuse, and that are in none of these rows when their turn comes."""
    for one, other in itertools.combinations(values(), 2):
        for pair in itertools.product(
            ((one, each) for each in values()[one]), ((other, each) for each in values()[other])
        ):
            possible = any(not _refused((("ApiType", kind), *pair)) for kind in values()["ApiType"])
            if possible and not any(each[one] == pair[0][1] and each[other] == pair[1][1] for each in rows):
                yield pair


def _refused(known: Iterable[tuple[str, str]]) -> bool:
    """Whether the rules refuse these values, whatever the other parameters are."""
    return bool(refusals(dict(known), whole=False))


def _completed(number: int, row: dict[str, str]) -> dict[str, str]:
    """The row with what its values ask for; of several values the one whose turn it is."""
    known = dict(row)
    # VpcId follows a parameter that may follow another one.
    for name, (asks, wanted) in (MAY_FOLLOW | FOLLOWS).items():
        chosen = TEXTS[name] if name in FOLLOWS else ("", *TEXTS[name])
        value = known.get(asks, "")
        if value != values().get(asks, ("",))[0] if wanted is None else value == wanted:
            known[name] = chosen[number % len(chosen)]
    return known
