"""A cloud to deploy to: moto's server, with what it lacks for SAM.

`sam deploy` against moto alone reports success and creates nothing, since moto does not know the SAM transform. These modules
add, each in one place, what a SAM application's stack needs. They replace moto's own functions, some of them private, so moto is
pinned (requirements/dev.in), and `patches` refuses any other version.

    transform    AWS::Serverless-2016-10-31, by AWS's own aws-sam-translator; the outputs of a change set
    deleted      the resources of a stack that was deleted, by its id
    no_value     AWS::NoValue in lists
    conditions   conditions of resources, in updates
    gateway      REST APIs with a body, their deployments and stages
    http_apis    HTTP APIs with a body, their stages, domain names and mappings
    functions    layers of functions, and invoking them: in AWS's runtime image, read-only, with the memory limit
    versions     published versions of functions, and aliases
    verdicts     what the check before a deploy tells CodeDeploy

Not added: execute-api (`sam local start-api` answers HTTP), IAM (everything is allowed), CodeDeploy's deployments (an alias moves
at once, and nothing calls the check), drift, nested stacks.
"""
