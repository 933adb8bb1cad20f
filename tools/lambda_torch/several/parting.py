"""What of the template each model has for itself, and what all models share. Rules as data, each with its reason."""

from typing import Any

from lambda_torch.several.naming import names_in

# Parameters that each model has for itself, under names that begin with the model's: NamesMemorySize.
OWN_PARAMETERS = {
    "MemorySize": "models have different sizes",
    "EphemeralStorage": "releases have different sizes",
    "Timeout": "models take different times",
    "SnapStart": "it is charged by memory, and pays for some models only",
    "ProvisionedConcurrency": "each environment is charged",
    "WarmUpSchedule": "a model that is asked rarely may need it",
    "ReservedConcurrency": "one model must not take the environments of the others",
    "QueueConcurrency": "it depends on how fast the model answers",
    "QueueVisibilitySeconds": "it is at least Timeout",
    "BulkConcurrency": "it depends on how fast the model answers",
    "BulkBatchSize": "so does the number of items that fit into Timeout",
    "AllowPrograms": "a model without programs must refuse them also beside one that has them",
    "LatencyAlarmMilliseconds": "models take different times",
    "StaleReleaseDays": "some models are trained every night, and others once",
}

# Resources that each model has for itself though nothing in them refers to the function: the function refers to them.
OWN_RESOURCES = {
    "PredictLogGroup": "a log for each model",
    "RequestQueue": "messages are for one model",
    "FailedRequests": "so are those that failed",
    "BulkLogGroup": "a log for each state machine",
    "DeployCheckLogGroup": "a log for each check",
}

# Resources that refer to functions or to keys of the bucket, and that all models have in common. `joint` makes each.
JOINT_RESOURCES = {
    "PredictApi": "one REST API with the routes of all models",
    "PredictHttpApi": "one HTTP API with the routes of all models",
    "ModelBucket": "one bucket, with rules for the objects of each model",
    "ModelBucketPolicy": "it names the releases and channels of each model",
    "Dashboard": "one dashboard, with a part for each model",
}

# Outputs that each model has for itself though they refer only to shared resources.
OWN_OUTPUTS = {
    "PredictUrl": "the path has the model's name",
    "PublishCommand": "so has the command",
}


class Parts:
    """What each model has for itself, by section of the template.

    What refers to something of that kind is of that kind too, so a new alarm of the function needs no new row above.

    Attributes:
        parameters, conditions, rules, resources, outputs: the names.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        def section(name: str) -> dict[str, Any]:
            found: dict[str, Any] = document.get(name, {})
            return found

        self.parameters = [name for name in section("Parameters") if name in OWN_PARAMETERS]
        known = set(self.parameters)
        self.conditions = _closed(section("Conditions"), known)
        self.rules = [name for name, rule in section("Rules").items() if names_in(rule) & known]
        candidates = {name: each for name, each in section("Resources").items() if name not in JOINT_RESOURCES}
        known |= candidates.keys() & OWN_RESOURCES.keys()
        _closed(candidates, known)
        self.resources = [name for name in candidates if name in known]
        self.outputs = [
            name for name, each in section("Outputs").items() if name in OWN_OUTPUTS or names_in(each) & known
        ]

    @property
    def referred(self) -> list[str]:
        """The names by which something can refer to a part."""
        return [*self.parameters, *self.conditions, *self.resources]


def _closed(candidates: dict[str, Any], known: set[str]) -> list[str]:
    """Those that refer to what is known, or to each other. They are known from then on."""
    found: list[str] = []
    while new := [name for name, each in candidates.items() if name not in known and names_in(each) & known]:
        found += new
        known |= set(new)
    return [name for name in candidates if name in found]
