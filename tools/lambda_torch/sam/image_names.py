"""The names of AWS's images, as SAM asks for them."""


def runtime(version: str, architecture: str = "x86_64") -> str:
    """The image that a function for this Python ("3.13") runs in (samcli/local/docker/lambda_image.py)."""
    return f"public.ecr.aws/lambda/python:{version}-{architecture}"


def build(version: str, architecture: str = "x86_64") -> str:
    """The image that `sam build --use-container` builds in (samcli/lib/build/app_builder.py)."""
    return f"public.ecr.aws/sam/build-python{version}:latest-{architecture}"
