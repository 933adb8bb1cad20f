"""A stack with a function that uses only the torch layer."""

from pathlib import Path

from aws_cdk import App, CfnOutput, CfnParameter, Duration, Stack
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

FUNCTION = Path(__file__).resolve().parents[1] / "function"


class TorchStack(Stack):
    """One function, with the layer version whose ARN is the parameter LayerArn."""

    def __init__(self, scope: Construct, name: str) -> None:
        super().__init__(scope, name)
        arn = CfnParameter(self, "LayerArn", description="What `lambda-torch layer publish` printed for this region")
        layer = lambda_.LayerVersion.from_layer_version_arn(self, "TorchLayer", arn.value_as_string)
        function = lambda_.Function(
            self,
            "Function",
            code=lambda_.Code.from_asset(str(FUNCTION), exclude=["__pycache__"]),
            handler="app.handler",
            # The runtime and the architecture of the layer.
            runtime=lambda_.Runtime("python3.13", lambda_.RuntimeFamily.PYTHON),
            architecture=lambda_.Architecture.X86_64,
            memory_size=1769,
            timeout=Duration.seconds(30),
            layers=[layer],
        )
        CfnOutput(self, "FunctionName", value=function.function_name)


app = App()
TorchStack(app, "torch-layer-only")
app.synth()
